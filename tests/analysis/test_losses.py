"""Hessian spectra against exact Hessians and quadratics; landscapes: norms, resuming, workers."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import zoo
from zoo.analysis._lanczos import lanczos, smooth_density, spectral_density, top_eigenvalues
from zoo.analysis._loss_plane import measure_point, moved, parameter_norms, random_directions
from zoo.analysis.hessian import HessianSettings, hessian_product, hessian_spectrum
from zoo.analysis.landscape import LandscapeSettings, loss_landscape
from zoo.errors import AnalysisError, ConfigError

landscape_grid = importlib.import_module("zoo.analysis.landscape")


class Small(nn.Module):
    """Attention and a nonlinearity in a few dozen parameters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.qkv = nn.Linear(3, 9)
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).chunk(3, -1)
        return self.head(torch.tanh(F.scaled_dot_product_attention(q, k, v)).mean(1))


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(5, 3, 2, 2, generator=generator), torch.tensor([0, 1, 2, 0, 1])


def _exact_hessian(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    sizes = [p.numel() for p in model.parameters()]
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss(w: Tensor) -> Tensor:
        parts = [p.view(s) for p, s in zip(w.split(sizes), shapes, strict=True)]
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            out = functional_call(model, dict(zip(names, parts, strict=True)), (x,))
        return F.cross_entropy(out, y)

    return torch.autograd.functional.hessian(loss, flat)


def test_products_equal_the_exact_hessian_and_l2_shifts_it() -> None:
    model, (x, y) = Small().double(), _batch()
    exact = _exact_hessian(model, x.double(), y)
    for decay in (0.0, 0.3):
        product, size = hessian_product(model, x.double(), y, decay)
        assert size == len(exact)
        rows = torch.stack([product(row) for row in torch.eye(size, dtype=torch.float64)])
        shifted = exact + decay * torch.eye(size, dtype=torch.float64)
        torch.testing.assert_close(rows, shifted, rtol=1e-9, atol=1e-12)


def test_top_eigenvalues_equal_the_exact_ones() -> None:
    model, (x, y) = Small().double(), _batch()
    values = torch.linalg.eigvalsh(_exact_hessian(model, x.double(), y))
    expected = values[values.abs().argsort(descending=True)][:3]
    settings = HessianSettings(count=3, weight_decay=0.0, tolerance=1e-10, max_iterations=5000)
    plain = hessian_spectrum(model, [(x, y)], settings)
    assert plain.eigenvalues[0] == pytest.approx(expected.tolist(), rel=1e-5)
    decayed = HessianSettings(count=1, weight_decay=1.0, tolerance=1e-10, max_iterations=5000)
    shifted = hessian_spectrum(model, [(x, y)], decayed)
    assert shifted.eigenvalues[0][0] == pytest.approx(float(values.max()) + 1.0, rel=1e-5)


def test_soft_targets_are_the_mixture_of_hard_ones() -> None:
    model, (x, y) = Small().double(), _batch()
    v = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    soft = 0.5 * F.one_hot(y, 3) + 0.5 * F.one_hot((y + 1) % 3, 3)
    mixed, _ = hessian_product(model, x.double(), soft.double(), 0.0)
    parts = [hessian_product(model, x.double(), t, 0.0)[0](v) for t in (y, (y + 1) % 3)]
    torch.testing.assert_close(mixed(v), (parts[0] + parts[1]) / 2)


def test_power_iteration_keeps_signs_and_finds_the_null_space() -> None:
    matrix = torch.diag(torch.tensor([1.0, -5.0, 3.0, 0.0]))
    generator = torch.Generator().manual_seed(0)
    found = top_eigenvalues(lambda v: matrix @ v, 4, 4, 1e-9, 500, generator)
    assert found.eigenvalues == pytest.approx((-5.0, 3.0, 1.0, 0.0), abs=1e-4)
    assert all(found.converged)
    hasty = top_eigenvalues(lambda v: matrix @ v, 4, 1, 1e-12, 2, generator)
    assert hasty.converged == (False,)


def test_the_table_says_which_eigenvalues_converged() -> None:
    hasty = HessianSettings(count=1, tolerance=0.0, max_iterations=1)
    patient = HessianSettings(count=1, tolerance=1e-3, max_iterations=500)
    found = [hessian_spectrum(Small(), [_batch()], how) for how in (hasty, patient)]
    assert [result.rows()[0]["converged"] for result in found] == ["no", "yes"]
    assert [result.converged_share for result in found] == [0.0, 1.0]


def test_lanczos_is_exact_after_as_many_steps_as_dimensions() -> None:
    torch.manual_seed(1)
    a = torch.randn(12, 12, dtype=torch.float64)
    a = a + a.T
    start = torch.randn(12, dtype=torch.float64)
    values, weights = lanczos(lambda v: a @ v, start, 50)
    torch.testing.assert_close(values, torch.linalg.eigvalsh(a), rtol=1e-8, atol=1e-8)
    assert float(weights.sum()) == pytest.approx(1)
    unit = start / start.norm()
    assert float((weights * values).sum()) == pytest.approx(float(unit @ a @ unit))


def test_the_spectral_density_has_the_traces_of_the_matrix() -> None:
    generator = torch.Generator().manual_seed(2)
    diagonal = torch.cat([torch.full((300,), -1.0), torch.full((700,), 2.0)])
    points, weights = spectral_density(lambda v: diagonal * v, 1000, 10, 16, generator)
    assert float(weights.sum()) == pytest.approx(1)
    assert float((weights * points).sum()) == pytest.approx(1.1, abs=0.05)
    assert float(weights[points < 0].sum()) == pytest.approx(0.3, abs=0.02)
    at = torch.linspace(-3, 4, 4001, dtype=torch.float64)
    density = smooth_density(points, weights, at, 0.1)
    assert float(torch.trapezoid(density, at)) == pytest.approx(1, abs=1e-6)


def test_a_frozen_model_has_no_hessian() -> None:
    with pytest.raises(AnalysisError, match="no parameter requires gradients"):
        hessian_spectrum(Small().requires_grad_(False), [_batch()])


def test_filter_normalised_directions_are_as_long_as_the_filters() -> None:
    model = zoo.create_model("alternet_nano")
    for norm, axes in (("filter", (1, 2, 3)), ("how-do-vits-work", (0,))):
        for direction in random_directions(model, 3, norm):
            for key, value in model.state_dict().items():
                found = direction[key]
                if value.ndim == 4:
                    lengths = [torch.linalg.vector_norm(t, 2, axes) for t in (found, value)]
                    torch.testing.assert_close(*lengths, rtol=1e-5, atol=1e-7)
                if value.ndim < 2 or "pos_embed" in key:
                    assert not found.any(), key
    with pytest.raises(ConfigError, match="norm must be one of"):
        random_directions(model, norm="layer")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_plane_is_as_precise_as_the_model(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3)).to(dtype)
    weight = model[0].weight.detach()
    noise = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    found = random_directions(model, norm="filter", noise=lambda *_: noise)
    wide = weight.double()
    scale = wide.norm(dim=1, keepdim=True) / (noise.double().norm(dim=1, keepdim=True) + 1e-7)
    expected = scale * noise.double()
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    assert float((found[0]["0.weight"].double() - expected).abs().max()) < tolerance
    at = moved(model, found, 0.3, -0.1)["0.weight"]
    assert at.dtype == dtype
    exact = wide + (0.3 - 0.1) * expected
    assert float((at.double() - exact).abs().max()) < max(tolerance, torch.finfo(dtype).eps)


def test_the_centre_is_the_trained_model_and_directions_depend_on_the_seed() -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    one, other = random_directions(model, 0), random_directions(model, 1)
    assert not torch.equal(one[0]["head.weight"], other[0]["head.weight"])
    assert torch.equal(one[0]["head.weight"], random_directions(model, 0)[0]["head.weight"])
    for key, value in moved(model, one, 0.0, 0.0).items():
        assert torch.equal(value, model.state_dict()[key])
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    point = measure_point(model, one, 0.0, 0.0, [(x, y)])
    with torch.no_grad():
        assert point.nll == pytest.approx(float(F.cross_entropy(model.eval()(x), y)), rel=1e-5)
    squares = sum(float(p.detach().double().square().sum()) for p in model.parameters())
    assert 2 * point.half_squares == pytest.approx(squares)
    assert parameter_norms(model, model.state_dict())[1] == pytest.approx(point.l2)


def _grid(model: nn.Module, log: Path | None = None, **changes: Any) -> Any:
    settings = LandscapeSettings(count=3, extent=0.5, **changes)
    return loss_landscape(model, [_batch()], settings, log=log)


def test_an_interrupted_grid_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, log = Small(), tmp_path / "grid.jsonl"
    whole = _grid(model)
    calls = []
    measure = landscape_grid.measure_point

    def counting(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return measure(*args)

    monkeypatch.setattr(landscape_grid, "measure_point", counting)
    with pytest.raises(KeyboardInterrupt):
        _grid(model, log)
    assert len(log.read_text().splitlines()) == 1 + 4
    log.write_text(log.read_text() + '{"x": 0.5, "y"')  # cut off in the middle
    assert _grid(model, log).points == whole.points
    assert len(calls) == 5 + 5
    assert _grid(model, log).points == whole.points
    assert len(calls) == 10
    with pytest.raises(AnalysisError, match="points of another model, data or settings"):
        _grid(model, log, norm="filter")


def test_several_workers_find_the_same_points() -> None:
    model = zoo.create_model("alternet_nano")
    batch = [(torch.randn(2, 3, 32, 32), torch.arange(2))]
    one, two = (
        loss_landscape(model, batch, LandscapeSettings(count=3, workers=workers))
        for workers in (1, 2)
    )
    for a, b in zip(one.points, two.points, strict=True):
        assert b.nll == pytest.approx(a.nll, rel=1e-5)
        assert (b.x, b.y) == (a.x, a.y)
    assert one.centre.x == one.centre.y == 0.0


def test_a_grid_without_a_centre_is_refused() -> None:
    with pytest.raises(ConfigError, match="odd number of points per side"):
        loss_landscape(Small(), [_batch()], LandscapeSettings(count=4))


def test_results_are_json_without_infinities() -> None:
    found = _grid(Small()).to_dict()
    text = json.dumps(found, allow_nan=False)
    assert "half_squares" in text
