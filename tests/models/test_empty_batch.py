"""An empty batch gives an empty answer, in every family."""

from __future__ import annotations

import pytest
import torch

import zoo
from zoo.factory.create import create_random

NAMES = [name for name in zoo.list_models() if name.endswith("_nano")]


@pytest.mark.parametrize("name", [*NAMES, "mobilenet", "vgg_11"])
def test_no_images_have_no_logits(name: str) -> None:
    model = create_random(name, 0, num_classes=7).eval()
    size = model.pretrained_cfg.input.size
    assert model(torch.zeros(0, 3, *size)).shape == (0, 7)
