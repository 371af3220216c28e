"""What an analysis cannot work with is said in a sentence: targets, answers, sizes, numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from tests.analysis.models import Classifier, FixedAttention, Wrapped, batches
from zoo.analysis._units import Unit
from zoo.analysis.attention import query_attention
from zoo.analysis.buildup import build_up_study
from zoo.analysis.filters import layer_gains
from zoo.analysis.fourier import fourier_analysis
from zoo.analysis.gates import gate_study
from zoo.analysis.hessian import HessianSettings, hessian_spectrum
from zoo.analysis.landscape import LandscapeSettings, loss_landscape
from zoo.analysis.lesion import lesion_study
from zoo.analysis.noise import NoiseSettings, noise_study
from zoo.analysis.nonlocality import nonlocality_study
from zoo.analysis.robustness import corruption_robustness
from zoo.analysis.similarity import similarity_study
from zoo.analysis.specificity import specificity_study
from zoo.analysis.variance import feature_variance
from zoo.errors import AnalysisError, ConfigError

Study = Callable[[nn.Module, torch.Tensor, Any], Any]


def _net() -> nn.Module:
    torch.manual_seed(3)
    return Classifier(*(Wrapped(nn.Conv2d(4, 4, 3, padding=1)) for _ in range(2))).eval()


def _noise(model: nn.Module, images: torch.Tensor, targets: Any) -> Any:
    logits = lambda x: model(torch.tensor(x)).detach().numpy()  # noqa: E731
    return noise_study(logits, images.numpy(), targets, NoiseSettings((0.5,)))


def _robustness(model: nn.Module, images: torch.Tensor, targets: Any) -> Any:
    return corruption_robustness(lambda x: model(x).detach(), [("fog", 1, [(images, targets)])])


STUDIES: dict[str, Study] = {
    "lesion": lambda model, x, y: lesion_study(model, [(x, y)]),
    "noise": _noise,
    "robustness": _robustness,
    "hessian": lambda model, x, y: hessian_spectrum(model, [(x, y)], HessianSettings(count=1)),
    "landscape": lambda model, x, y: loss_landscape(model, [(x, y)], LandscapeSettings(count=1)),
}
each_study = pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
IMAGES = batches(1, 6)[0][0]


@each_study
@pytest.mark.parametrize(
    "convert",
    [
        lambda y: y.int(), lambda y: y.to(torch.uint8), lambda y: y.tolist(), lambda y: y.numpy(),
        lambda y: y.short().numpy(),
    ],
    ids=["int32", "uint8", "list", "numpy", "int16"],
)  # fmt: skip
def test_class_numbers_of_any_kind_are_the_same(study: Study, convert: Any) -> None:
    targets = torch.arange(6) % 3
    expected = study(_net(), IMAGES, targets).to_dict()
    assert study(_net(), IMAGES, convert(targets)).to_dict() == expected


@each_study
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            torch.arange(6)[:, None] % 3,
            r"targets are class numbers \(B,\).*int64 \(6, 1\) for 6",
        ),
        (torch.arange(24) % 3, r"got int64 \(24,\) for 6 images"),
        (torch.arange(5) % 3, r"got int64 \(5,\) for 6 images"),
        (torch.eye(6).long(), r"got int64 \(6, 6\) for 6"),
        (torch.rand(6), r"got float32 \(6,\) for 6"),
        (["a"] * 6, "targets are class numbers"),
        (torch.arange(6), "targets reach from 0 to 5; the model has classes 0 to 2"),
        (torch.arange(6) % 3 - 1, "targets reach from -1 to 1"),
        (torch.tensor([-100, 1, 2, 0, 1, 2]), "targets reach from -100 to 2"),
    ],
)
def test_targets_that_are_no_classes_are_refused(study: Study, targets: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message) as caught:
        study(_net(), IMAGES, targets)
    assert caught.value.code == "targets"


@each_study
def test_answers_that_are_no_numbers_are_refused(study: Study) -> None:
    model = _net()
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with pytest.raises(AnalysisError, match="the model returns NaN or infinity") as caught:
        study(model, IMAGES, torch.arange(6) % 3)
    assert caught.value.code == "not_finite"


@each_study
def test_maps_are_no_answers(study: Study) -> None:
    model = nn.Sequential(nn.Conv2d(4, 3, 1))
    with pytest.raises(AnalysisError, match=r"the model returns float32 \(6, 3, 8, 8\); expected"):
        study(model, IMAGES, torch.arange(6) % 3)


@pytest.mark.parametrize("study", [STUDIES["hessian"], STUDIES["landscape"]])
def test_probabilities_are_targets_of_a_loss_alone(study: Study) -> None:
    targets = torch.arange(6) % 3
    soft = nn.functional.one_hot(targets, 3).double()
    found, expected = (study(_net(), IMAGES, y).rows()[0] for y in (soft, targets))
    for key in found.keys() & {"eigenvalue", "nll", "acc1_percent"}:
        assert found[key] == pytest.approx(expected[key], rel=1e-3)
    for wrong in (soft[:, :2], -soft, soft * torch.nan):
        with pytest.raises(AnalysisError, match=r"probabilities for \d classes, of a model with 3"):
            study(_net(), IMAGES, wrong)
    with pytest.raises(AnalysisError, match="got float64"):
        STUDIES["lesion"](_net(), IMAGES, soft)


def test_a_point_far_away_may_be_infinite() -> None:
    found = loss_landscape(
        _net().half(), [(IMAGES, torch.arange(6) % 3)], LandscapeSettings(count=3, extent=1e5)
    )
    assert np.isfinite(found.centre.nll)
    assert not np.isfinite(found.points[0].nll)


def _attending() -> nn.Module:
    return Classifier(Wrapped(FixedAttention(torch.full((2, 64, 64), 1 / 64))))


MAPS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Any]]] = {
    "fourier": (_net, fourier_analysis),
    "variance": (_net, feature_variance),
    "filters": (_net, layer_gains),
    "specificity": (_net, specificity_study),
    "nonlocality": (_attending, nonlocality_study),
    "similarity": (_attending, similarity_study),
}


@pytest.mark.parametrize(("make", "study"), MAPS.values(), ids=MAPS)
def test_images_of_two_sizes_are_refused(
    make: Callable[[], nn.Module], study: Callable[..., Any]
) -> None:
    with pytest.raises(
        AnalysisError, match="images of 4 channels, 8 x 8 pixels and of 4 chan"
    ) as e:
        study(make(), [torch.randn(2, 4, 8, 8), torch.randn(2, 4, 16, 12)])
    assert e.value.code == "sizes"
    assert "16 x 12 pixels" in str(e.value)


def test_an_accuracy_over_images_of_two_sizes_has_a_meaning() -> None:
    loader = [(torch.randn(2, 4, side, side), torch.arange(2)) for side in (8, 16)]
    assert lesion_study(_net(), loader).intact.total == 4


GIVEN: dict[str, Callable[[Any], Any]] = {
    **{key: lambda m, study=study: study(m, batches()) for key, (_, study) in MAPS.items()},
    "lesion": lambda m: lesion_study(m, batches()),
    "named": lambda m: lesion_study(m, batches(), ["blocks.0"]),
    "hessian": lambda m: hessian_spectrum(m, batches()),
    "landscape": lambda m: loss_landscape(m, batches()),
    "gates": lambda m: gate_study(m, (8, 8)),
    "attention": lambda m: query_attention(m, IMAGES[:1], None),
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_a_name_is_no_model(given: Callable[[Any], Any]) -> None:
    with pytest.raises(AnalysisError, match=r"got 'convit_nano': pass zoo.create_model\('convit_n"):
        given("convit_nano")


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (5, "a loader yields batches of images; got int"),
        ("digits", r"a loader yields images \(B, C, H, W\).*got str"),
        ([{"image": IMAGES}], "got dict"),
        ([()], "got NoneType"),
        (IMAGES, r"got torch.Size\(\[4, 8, 8\]\)"),
        ([], "the loader yields no images"),
    ],
)
def test_what_is_no_loader_is_refused(loader: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        fourier_analysis(_net(), loader)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HessianSettings(count=0), "count must be at least 1; got 0"),
        (lambda: HessianSettings(count=1.5), "count must be a whole number.*; got 1.5"),
        (lambda: HessianSettings(max_iterations=0), "max_iterations must be at least 1"),
        (lambda: HessianSettings(density_steps=-1), "density_steps must be at least 0"),
        (lambda: HessianSettings(tolerance=float("nan")), "tolerance must be a finite number"),
        (lambda: LandscapeSettings(extent=float("inf")), "extent must be a finite number; got inf"),
        (lambda: LandscapeSettings(ignored="bias"), "ignored must be a list or tuple; got 'bias'"),
        (lambda: lesion_study(_net(), batches(), "blocks.0"), "names must be a list or tuple"),
        (lambda: NoiseSettings(eps=True), "eps must be a finite number; got True"),
        (lambda: query_attention(_net(), IMAGES[:1], None, (0.5,)), "query must be two numbers"),
        (lambda: query_attention(_net(), IMAGES[:1], None, 0.5), "query must be two numbers"),
        (lambda: gate_study(_convit(), 8), r"grid must be two numbers \(rows, columns\); got 8"),
        (lambda: gate_study(_convit(), (8, 0)), "grid must be at least 1; got 0"),
        (lambda: gate_study(_convit(), (8, 2.5)), "grid must be a whole number.*got 2.5"),
        (lambda: build_up_study("CCA", print), "plans"),
        (lambda: build_up_study(["CCA"], print), "plan must be a list or tuple; got 'CCA'"),
        (
            lambda: feature_variance(_net(), batches(), ["blocks.0"]),
            r"got 'blocks.0': pass find_units\(model, names=\['blocks.0'\]\)",
        ),
        (
            lambda: feature_variance(_net(), batches(), [Unit("a", "mlp", "nowhere")]),
            r"no modules \['nowhere'\]",
        ),
        (
            lambda: _noise(_net(), IMAGES[0], [0]),
            r"float arrays.*got float32 \(4, 8, 8\)",
        ),
        (lambda: _noise(_net(), IMAGES.byte(), [0] * 6), r"images are float arrays.*got uint8"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((ConfigError, AnalysisError), match=message):
        make()


def test_a_unit_that_does_not_run_has_no_drop() -> None:
    model = _net()
    model.spare = nn.Conv2d(4, 4, 1)
    lesion = lesion_study(model, batches(), ["spare"]).lesions[0]
    assert (lesion.accuracy, lesion.drop_percent, lesion.note) == (None, None, "does not run")


def _convit() -> nn.Module:
    return zoo.create_model("convit_nano", pretrained=True)
