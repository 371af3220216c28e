"""Models of one patch embedding and one grid of positions: padding, other sizes, dropout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.contract.helpers import build, families_taking, images, relative_error, tiny
from tests.reference.naive import on_one_thread
from zoo.weights.loading import load_state

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
FAMILIES = ("convit", "conv_attention_vit", "csan_encoder")
RATES = [
    (family, rate)
    for rate in ("drop_rate", "pos_drop_rate", "attn_drop_rate")
    for family in FAMILIES
    if family in families_taking(rate)
]
each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
def test_images_are_zero_padded_to_whole_patches(family: str) -> None:
    model, x = tiny(family), images(family, size=(27, 30))
    assert torch.equal(model(x), model(F.pad(x, (0, 2, 0, 5))))


@each_family
@pytest.mark.parametrize("size", [(37, 53), (32, 48), (61, 32), (5, 7), (1, 1)])
def test_images_of_any_size_run(family: str, size: tuple[int, int]) -> None:
    model = tiny(family)
    logits = model(images(family, size=size))
    assert logits.shape == (2, model.num_classes)
    assert logits.isfinite().all()


@each_family
def test_weights_load_at_another_image_size_and_compute_the_same(family: str) -> None:
    model, other = tiny(family), tiny(family, img_size=(48, 72))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    load_state(other, model.state_dict(), "the small model", adapt=True)
    x = images(family, size=(48, 72))
    assert relative_error(other(x), model(x)) < 1e-6


def test_there_are_rates_of_every_family() -> None:
    assert {family for family, _ in RATES} == set(FAMILIES)


@pytest.mark.parametrize(("family", "rate"), RATES)
def test_dropout_changes_training_but_not_eval(family: str, rate: str) -> None:
    plain, dropped, x = tiny(family), build(family, **{rate: 0.5}).eval(), images(family)
    dropped.load_state_dict(plain.state_dict())
    assert torch.equal(dropped(x), plain(x))
    assert relative_error(dropped.train()(x), plain.train()(x)) > 1e-3
