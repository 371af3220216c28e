"""Calibration in any number of bins, any border of certainty, and spectra of maps that are not
square as the original reads them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.golden_targets import analysis, metrics
from tests.goldens import fill
from zoo.analysis.fourier import log_amplitudes
from zoo.cli import cli
from zoo.data.dataset import in_memory
from zoo.errors import AnalysisError, ConfigError
from zoo.evaluation.evaluate import Evaluation, evaluate

THEIRS = "how-do-vits-work"
GOLDENS = Path(fill.__file__).parent


def _found(**settings: object) -> Evaluation:
    """Sixty images of three classes; the first pixel is the class, the second the certainty."""
    images = np.random.default_rng(1).integers(0, 256, (60, 2, 2, 3), dtype=np.uint8)
    data = in_memory("toy", ("a", "b", "c"), images, np.arange(60) % 3)
    images[:, 0, 0, 0] = np.where(np.arange(60) % 7, np.arange(60) % 3, 1)

    def logits(batch: object) -> np.ndarray:
        return np.stack([np.eye(3)[x[0, 0, 0]] * x[0, 1, 0] / 64 for x in batch])  # type: ignore[attr-defined]

    return evaluate(logits, data, resamples=0, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("bins", [1, 4, 15, 37])
def test_ece_is_taken_over_as_many_bins_as_asked_for(bins: int) -> None:
    found = _found(bins=bins)
    confidences, correct = found.outcomes.confidences, found.outcomes.correct
    gaps = 0.0
    for k in range(bins):
        inside = (confidences > k / bins) & (confidences <= (k + 1) / bins)
        if inside.any():
            gaps += inside.mean() * abs(confidences[inside].mean() - correct[inside].mean())
    assert found.values["ece"] == pytest.approx(gaps, abs=1e-9)
    assert len(found.to_dict()["reliability"]["counts"]) == bins


def test_cutoffs_are_reported_beside_the_usual_one() -> None:
    rows = _found(cutoffs=(0.5, 0.9, 0.99999)).to_dict()["cutoffs"]
    found = _found()
    above = found.outcomes.confidences > 0.5
    assert rows[0]["frequency"] == pytest.approx(above.mean(), abs=1e-6)
    assert rows[0]["acc"] == pytest.approx(found.outcomes.correct[above].mean(), abs=1e-6)
    assert rows[1]["acc"] == pytest.approx(found.values["acc90"], abs=1e-6)
    assert rows[2]["acc"] is None  # nothing is that certain


@pytest.mark.parametrize("settings", [{"bins": 0}, {"cutoffs": (1.0,)}, {"cutoffs": (-0.1,)}])
def test_impossible_bins_and_cutoffs_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        _found(**settings)


def test_the_command_takes_bins_and_cutoffs() -> None:
    call = ["evaluate", "convit_nano", "--data", "digits", "--bins", "7"]
    done = CliRunner().invoke(cli, [*call, "--cutoff", "0.5", "--cutoff", "0.8", "--json"])
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["results"].values()
    assert len(result["reliability"]["counts"]) == 7
    assert [row["cutoff"] for row in result["cutoffs"]] == [0.5, 0.8]


def _as_the_notebook(z: np.ndarray) -> np.ndarray:
    """Roll by half of each side, mean, main diagonal from int(h / 2) on."""
    h, w = z.shape[2:]
    shifted = np.roll(np.log(np.abs(np.fft.fft2(z)) + 1e-6), (h // 2, w // 2), (2, 3)).mean((0, 1))
    return np.diagonal(shifted)[h // 2 :]


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (6, 9), (9, 6), (5, 14)])
def test_the_originals_reading_takes_the_same_index_on_both_axes(size: tuple[int, int]) -> None:
    z = np.random.default_rng(2).normal(size=(2, 3, *size))
    found = log_amplitudes(torch.from_numpy(z), THEIRS).mean(0).numpy()
    np.testing.assert_allclose(found, _as_the_notebook(z), rtol=1e-12)


@pytest.mark.parametrize("side", [7, 8])
def test_both_readings_agree_on_square_maps(side: int) -> None:
    z = torch.randn(2, 3, side, side, dtype=torch.float64)
    torch.testing.assert_close(log_amplitudes(z), log_amplitudes(z, THEIRS))


def test_a_map_whose_middle_the_diagonal_does_not_reach_is_an_error() -> None:
    with pytest.raises(AnalysisError, match="12 x 5"):
        log_amplitudes(torch.zeros(1, 1, 12, 5), THEIRS)


def test_golden_metrics_take_bins_and_cutoffs_of_the_case() -> None:
    case = {
        "recipe": "metrics", "seed": 3, "samples": 50, "num_classes": 4, "scale": 2.0,
        "noise": 1.0, "batches": [20, 30], "bins": 6, "cutoffs": [0.0, 0.4, 0.7, 0.95],
    }  # fmt: skip
    found = metrics.run(case, None, torch.float64)  # type: ignore[arg-type]
    assert found["cms"].shape == (4, 2, 4, 4)
    assert found["count_bin"].shape == (6,)
    assert found["acc"].shape == found["iou"].shape == found["freq"].shape == (4,)


def test_golden_spectra_take_tokens_and_maps_of_any_size() -> None:
    shapes = [[2, 100, 3], [1, 4, 6, 9], [2, 2, 31, 31], [2, 197, 4]]  # the last with class token
    found = analysis.run({"recipe": "fourier", "seed": 5, "latents": shapes}, None, torch.float64)  # type: ignore[arg-type]
    for i, shape in enumerate(shapes):
        z = fill.make_input(shape, 5, 1.0, f"z{i}").astype(np.float64)
        if z.ndim == 3:
            side = math.isqrt(shape[1])
            z = z[:, -(side**2) :].transpose(0, 2, 1).reshape(shape[0], shape[2], side, side)
        curve = _as_the_notebook(z)
        np.testing.assert_allclose(found[f"latent{i}"].numpy(), curve - curve[0], rtol=1e-9)


def test_golden_landscapes_are_filled_as_every_recorded_state_dict_was() -> None:
    """A landscape case names no spec: the rules must be those that the other cases record."""
    manifest = json.loads((GOLDENS / "manifest.json").read_text(encoding="utf-8"))
    seen = set()
    for case in manifest["cases"]:
        if "spec" not in case or case["kind"] == "csan":  # TensorFlow's (in, out) matrices
            continue
        kept = case.get("keys_not_filled", ())
        for key, shape, _, rule in fill.load_spec(GOLDENS / case["spec"]):
            assert (rule == "keep") == (key in kept)
            assert rule in (analysis.rule_of(key, shape), "keep"), (case["id"], key)
            seen.add(rule)
    assert seen == {
        "bias", "count", "gate", "gpsa_pos", "keep", "layer_scale", "linear", "mean", "norm",
        "pos", "var",
    }  # fmt: skip


def test_golden_landscapes_keep_what_is_not_filled_and_fill_statistics() -> None:
    kwargs = {"embed_dim": 8, "depth": 2, "local_up_to_layer": 1, "img_size": 32}
    build = {"target": "models.convit_tiny", "kwargs": kwargs}
    model = analysis._filled(
        {"build": build, "seed": 1, "gain": 1.0, "keys_not_filled": ["norm.bias"]}
    )
    assert not model.norm.bias.any()
    weight = fill.fill_tensor("blocks.0.attn.pos_proj.weight", (4, 3), "float32", "gpsa_pos", 1)
    np.testing.assert_array_equal(model.blocks[0].attn.pos_proj.weight.detach().numpy(), weight)
    assert (weight[:, 2] < 0).all()
