"""Units and their kinds: in models of other libraries, and in small ones made for a rule each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.analysis.kinds import TIMM, TORCHVISION, TRANSFORMERS, WORDS
from zoo.analysis._maps import token_grid
from zoo.analysis._units import find_units
from zoo.analysis.filters import layer_gains
from zoo.analysis.lesion import lesion_study
from zoo.analysis.variance import feature_variance
from zoo.errors import AnalysisError

FEW = ("convit_tiny", "pit_ti_224", "poolformer_s12", "halonet26t", "resnet18")


def _kinds(model: nn.Module, image: Tensor | None = None) -> list[str]:
    units = find_units(model.eval(), image=image)
    assert len({unit.name for unit in units}) == len(units)
    return [unit.kind for unit in units]


def _timm(name: str) -> nn.Module:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):  # shapes without numbers: nothing is computed
        return timm.create_model(name)


@pytest.mark.parametrize("name", FEW)
def test_a_few_families_have_the_kinds_of_their_papers(name: str) -> None:
    assert _kinds(_timm(name)) == [WORDS[letter] for letter in TIMM[name]]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TIMM.keys() - set(FEW)))
def test_timms_families_have_the_kinds_of_their_papers(name: str) -> None:
    assert _kinds(_timm(name)) == [WORDS[letter] for letter in TIMM[name]]


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_families_have_the_kinds_of_their_papers(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    old = name in ("googlenet", "inception_v3")
    keywords: dict[str, Any] = {"init_weights": False} if old else {}
    side = 299 if name == "inception_v3" else 224
    model = models.get_model(name, **keywords)
    found = _kinds(model.to("meta"), torch.zeros(1, 3, side, side))
    assert found == [WORDS[letter] for letter in TORCHVISION[name]]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_families_have_the_kinds_of_their_papers(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    keywords, expected = TRANSFORMERS[name]
    config = getattr(transformers, f"{name}Config")(**keywords)
    model = getattr(transformers, f"{name}ForImageClassification")(config)
    assert _kinds(model) == [WORDS[letter] for letter in expected]


class Layer(nn.Module):
    """A transformer block whose children have names that mean nothing."""

    def __init__(self, mixer: nn.Module, width: int = 8, after: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.c, self.after = nn.LayerNorm(width), mixer, nn.LayerNorm(width), after
        self.d = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.after:  # norms at the end of the branches, as in Swin V2
            x = x + self.a(self.b(x))
            return x + self.c(self.d(x))
        x = x + self.b(self.a(x))
        return x + self.d(self.c(x))


class ByProducts(nn.Module):
    """Attention that is written out."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.project = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).chunk(3, -1)
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


class OverTokens(nn.Module):
    """Mixes positions by a matrix of its own, or by a mean."""

    def __init__(self, matrix: bool, tokens: int = 16) -> None:
        super().__init__()
        self.matrix = nn.Linear(tokens, tokens) if matrix else nn.AvgPool1d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix(x.transpose(1, 2)).transpose(1, 2)


class Net(nn.Module):
    """Patches, layers, a mean."""

    def __init__(self, *layers: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.way_in = nn.Conv2d(3, width, 8, 8)
        self.layers, self.out = nn.ModuleList(layers), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.way_in(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return self.out(x.mean(1))


IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("after", [False, True])
def test_a_mixer_is_known_by_what_it_does(after: bool) -> None:
    mixers = (ByProducts(), OverTokens(True), OverTokens(False))
    model = Net(*(Layer(mixer, after=after) for mixer in mixers))
    assert _kinds(model, IMAGE) == ["convolution", "attention", "mlp", "mlp", "other", "mlp"]


def test_the_unit_of_a_branch_is_the_sum_after_it() -> None:
    layer = Layer(ByProducts(), after=True)
    model = Net(layer).eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        x = model.way_in(images).flatten(2).transpose(1, 2)
        total = x + layer.a(layer.b(x))
    found = feature_variance(model, [images]).units
    assert [unit.name for unit in found] == ["way_in", "layers.0 attention", "layers.0 mlp"]
    assert found[1].variance.mean == pytest.approx(float(total.var(1).mean()), rel=1e-5)


def test_a_lesion_takes_the_whole_branch_out() -> None:
    model = Net(Layer(ByProducts(), after=True)).eval()
    with torch.no_grad():
        model.layers[0].a.bias.fill_(5.0)  # would stay if only the attention were zeroed
    images = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        x = model.way_in(images).flatten(2).transpose(1, 2)
        x = x + model.layers[0].c(model.layers[0].d(x))
        targets = model.out(x.mean(1)).argmax(-1)
    targets[0] = (targets[1] + 1) % 3  # two classes at least
    [_, attention, _] = lesion_study(model, [(images, targets)]).lesions
    assert attention.name == "layers.0.b"
    assert attention.accuracy is not None
    assert attention.accuracy.correct >= 31


def test_stages_and_wrappers_are_entered_whatever_their_class() -> None:
    class Stage(nn.Sequential):
        pass

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Net(Stage(Layer(ByProducts()), Layer(ByProducts())))

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    names = [unit.name for unit in find_units(Wrapper(), image=IMAGE)]
    assert names[:3] == ["inner.way_in", "inner.layers.0.0 attention", "inner.layers.0.0 mlp"]
    assert len(names) == 5


def test_the_layers_of_filters_are_found_in_torchs_own_attention() -> None:
    class Self(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x, x, x, need_weights=False)[0]

    found = layer_gains(Net(Layer(Self())), [IMAGE]).layers
    assert [(layer.name, layer.kind) for layer in found] == [("layers.0.b.inner", "attention")]


def test_a_model_that_does_not_take_the_image_is_refused_by_name() -> None:
    with pytest.raises(AnalysisError, match=r"Net does not run on an image \(1, 32, 32\)"):
        find_units(Net(), image=IMAGE[:, :1])


def test_overlapping_patches_that_leave_the_border_out_have_a_grid() -> None:
    assert token_grid(27 * 27 + 1, (224, 224)) == (1, (27, 27))  # PiT: 16 pixels, stride 8
