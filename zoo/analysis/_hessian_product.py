"""Products of the Hessian of a loss with vectors, by two backward passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import AnalysisError
from ._answers import check_answers
from ._lanczos import Product


def hessian_product(
    model: nn.Module, x: Tensor, targets: Tensor, decay: float
) -> tuple[Product, int]:
    """v -> H v of the loss on one batch, over the parameters that require gradients.

    The model's own parameters and gradients are not touched. Targets are class numbers (B,) or
    probabilities (B, classes).
    Returns: the product, and the number of parameters that the loss depends on.
    Raises: AnalysisError without trained parameters, or for a loss that is not finite.
    """
    leaves = {
        name: value.detach().clone().requires_grad_()
        for name, value in model.named_parameters()
        if value.requires_grad
    }
    if not leaves:
        raise AnalysisError(
            "no parameter requires gradients: there is no Hessian; unfreeze some (requires_grad_)"
        )
    weights = tuple(leaves.values())
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
        answers, right = check_answers(functional_call(model, leaves, (x,)), targets, soft=True)
        loss = F.cross_entropy(answers, right)
        if not bool(torch.isfinite(loss)):
            raise AnalysisError(f"the loss is {float(loss.detach())}; check weights and input")
        slopes = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    used = [(w, g) for w, g in zip(weights, slopes, strict=True) if g is not None]
    sizes = [w.numel() for w, _ in used]

    def product(v: Tensor) -> Tensor:
        parts = [p.view_as(w) for p, (w, _) in zip(v.to(x).split(sizes), used, strict=True)]
        return torch.cat(_second_derivative(used, parts)).to(v) + decay * v

    return product, sum(sizes)


def _second_derivative(
    used: Sequence[tuple[Tensor, Tensor]], vector: Sequence[Tensor]
) -> list[Tensor]:
    """H v, flattened tensor by tensor; `used` are weights and their gradients with graph."""
    weights = [w for w, _ in used]
    curved = [(g, p) for (_, g), p in zip(used, vector, strict=True) if g.requires_grad]
    slopes, parts = zip(*curved, strict=True)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        found = torch.autograd.grad(slopes, weights, parts, retain_graph=True, allow_unused=True)
    filled = (torch.zeros_like(w) if h is None else h for h, w in zip(found, weights, strict=True))
    return [h.flatten() for h in filled]
