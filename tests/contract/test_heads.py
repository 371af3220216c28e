"""Feature maps and classifiers of every family. Nothing here names an architecture."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.reference.naive import on_one_thread
from zoo.errors import ConfigError

from .helpers import FAMILIES, build, images, run_or_refuse, tiny

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
each_family = pytest.mark.parametrize("family", FAMILIES)


def _sides(pixels: int, reduction: int) -> set[int]:
    """Side of a map: convolutions with padding round up, pools without it round down."""
    return {pixels // reduction, math.ceil(pixels / reduction)}


@each_family
def test_feature_info_names_modules_in_the_order_they_run(family: str) -> None:
    model, fired = tiny(family), []
    modules = dict(model.named_modules())
    names = [info["module"] for info in model.feature_info]
    for name in names:
        modules[name].register_forward_hook(lambda *_, name=name: fired.append(name))
    model(images(family))
    assert names
    assert fired == names


@each_family
@pytest.mark.parametrize("size", [(32, 32), (40, 24), (33, 47)])
def test_feature_info_tells_widths_and_reductions(family: str, size: tuple[int, int]) -> None:
    model, seen = tiny(family), {}
    modules = dict(model.named_modules())
    for info in model.feature_info:
        modules[info["module"]].register_forward_hook(
            lambda _module, _inputs, out, name=info["module"]: seen.update({name: out.shape})
        )
    if run_or_refuse(model, images(family, 2, size)) is None:
        return
    for info in model.feature_info:
        shape = seen[info["module"]]
        rows, columns = (_sides(pixels, info["reduction"]) for pixels in size)
        if len(shape) == 4:  # (B, C, H, W)
            assert shape[:2] == (2, info["num_chs"]), info
            assert shape[2] in rows, info
            assert shape[3] in columns, info
        else:  # (B, N, C), perhaps with a class token
            assert (shape[0], shape[2]) == (2, info["num_chs"]), info
            tokens = {height * width for height in rows for width in columns}
            assert {shape[1], shape[1] - 1} & tokens, info


@each_family
def test_without_classes_the_model_returns_embeddings(family: str) -> None:
    model, x = tiny(family), images(family)
    bare = build(family, num_classes=0).eval()
    result = bare.load_state_dict(model.state_dict(), strict=False)
    assert not result.missing_keys
    embeddings = bare(x)
    assert embeddings.shape == (2, model.num_features)
    assert torch.equal(embeddings, model.forward_head(model.forward_features(x), pre_logits=True))


@each_family
def test_the_classifier_turns_embeddings_into_logits(family: str) -> None:
    model, x = tiny(family), images(family)
    embeddings = model.forward_head(model.forward_features(x), pre_logits=True)
    assert torch.equal(model.get_classifier()(embeddings), model(x))


@each_family
def test_the_classifier_can_be_replaced(family: str) -> None:
    model, x = tiny(family).double(), images(family).double()
    features = model.forward_features(x)
    model.reset_classifier(5)
    assert model.num_classes == 5
    assert model.get_classifier().weight.shape == (5, model.num_features)
    assert model(x).shape == (2, 5)
    assert model(x).dtype == torch.float64
    assert torch.equal(model.forward_features(x), features)


@each_family
def test_the_classifier_can_be_removed(family: str) -> None:
    model, x = tiny(family), images(family)
    embeddings = model.forward_head(model.forward_features(x), pre_logits=True)
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert isinstance(model.get_classifier(), nn.Identity)
    assert torch.equal(model(x), embeddings)


@each_family
def test_pooling_cannot_be_changed_by_resetting_the_classifier(family: str) -> None:
    with pytest.raises(ConfigError, match=r"global_pool='max' cannot be changed"):
        build(family).reset_classifier(5, global_pool="max")
