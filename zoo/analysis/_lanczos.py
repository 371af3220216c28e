"""Eigenvalues of a symmetric matrix that is known by its products with vectors only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PowerIteration:
    """Eigenvalues of largest magnitude, in the order found, with the iterations that each took."""

    eigenvalues: tuple[float, ...]
    iterations: tuple[int, ...]
    converged: tuple[bool, ...]


def top_eigenvalues(
    product: Product,
    size: int,
    count: int = 1,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    generator: torch.Generator | None = None,
) -> PowerIteration:
    """Power iteration with deflation: the eigenvalues of largest magnitude, with their sign.

    Args:
        product: v -> A v for a symmetric A, (size,) float.
        count: how many; found vectors are projected out.
        tolerance: relative change of the Rayleigh quotient at which an iteration stops.
        generator: of the start vectors.
    """
    vectors: list[Tensor] = []
    found: list[tuple[float, int, bool]] = []
    for _ in range(min(count, size)):
        start = torch.randn(size, generator=generator)
        value, step, done, vector = _power(product, start, vectors, tolerance, max_iterations)
        found.append((value, step, done))
        vectors.append(vector)
    values, steps, converged = zip(*found, strict=True)
    return PowerIteration(values, steps, converged)


def _power(
    product: Product, v: Tensor, vectors: list[Tensor], tolerance: float, limit: int
) -> tuple[float, int, bool, Tensor]:
    """(eigenvalue, iterations, converged, vector), orthogonal to `vectors`."""
    v = _normalised(_without(v, vectors))
    value = float("nan")
    for step in range(1, limit + 1):
        image = _without(product(v), vectors)
        previous, value = value, float(v.double() @ image.double())
        # an image of 0 is the null space, whose eigenvalue 0 is exact
        settled = abs(value - previous) <= tolerance * abs(value) or float(image.norm()) == 0.0
        if settled:
            return value, step, True, v
        v = _normalised(_without(image, vectors))
    return value, limit, False, v


def _without(v: Tensor, vectors: list[Tensor]) -> Tensor:
    for other in vectors:
        v = v - (other @ v) * other
    return v


def _normalised(v: Tensor) -> Tensor:
    return v / v.norm().clamp(min=1e-30)


def lanczos(product: Product, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Ritz values and the weights of `start` on them: Lanczos with full reorthogonalisation.

    Returns: values ascending (m,) and weights (m,) that sum to 1, float64; m <= steps.
    """
    v = _normalised(start)
    basis, alphas, betas = [v], [], []
    for _ in range(min(steps, len(start))):
        w = product(basis[-1])
        alphas.append(float(w.double() @ basis[-1].double()))
        for _ in range(2):
            w = _without(w, basis)
        beta = float(w.norm())
        if beta < 1e-7 * max(abs(a) for a in alphas) or len(alphas) == min(steps, len(start)):
            break
        betas.append(beta)
        basis.append(w / beta)
    size = len(alphas)
    matrix = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    off = torch.tensor(betas[: size - 1], dtype=torch.float64)
    matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors[0].square()


def spectral_density(
    product: Product,
    size: int,
    steps: int = 64,
    probes: int = 4,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Stochastic Lanczos quadrature: points and weights that stand for the whole spectrum.

    Ghorbani, Krishnan, Xiao, arXiv:1901.10159. Returns: (m,) and (m,), weights sum to 1, so that
    ``(weights * f(points)).sum()`` estimates trace(f(A)) / size.
    """
    points, weights = [], []
    for _ in range(probes):
        values, share = lanczos(product, torch.randn(size, generator=generator), steps)
        points.append(values)
        weights.append(share / probes)
    return torch.cat(points), torch.cat(weights)


def smooth_density(points: Tensor, weights: Tensor, at: Tensor, width: float) -> Tensor:
    """The density at `at`, each point a Gaussian of that width. Integrates to 1."""
    scaled = (at[:, None] - points[None]) / width
    heights = torch.exp(-0.5 * scaled.square()) / (width * (2 * torch.pi) ** 0.5)
    return (heights * weights).sum(-1)
