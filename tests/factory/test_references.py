"""What a reference states holds: its tag, and one revision."""

from __future__ import annotations

import pytest
import torch

import zoo
from zoo.errors import ConfigError
from zoo.factory.create import create_from_file, create_random
from zoo.files.fetch import BUNDLED, fetch_model


@pytest.mark.parametrize("model", ["resnet_nano", "convit_nano"])
def test_a_tag_gives_shape_input_and_labels_without_its_weights_too(model: str) -> None:
    name = f"{model}.fashion_mnist"
    trained = zoo.create_model(name, pretrained=True)
    expected = trained.pretrained_cfg
    bare, random = zoo.create_model(name), create_random(name, 0)
    file = str(BUNDLED / zoo.get_record(name).selected.bundled)
    given = create_from_file(name, file)
    for found, tag in ((bare, ""), (random, "random"), (given, "custom")):
        cfg = found.pretrained_cfg
        assert (cfg.input, cfg.labels, cfg.tag) == (expected.input, expected.labels, tag)
    x = torch.rand(1, 3, 28, 28)
    assert torch.equal(given.eval()(x), trained.eval()(x))
    assert zoo.create_model(name, num_classes=3).pretrained_cfg.labels == ()
    assert zoo.create_model(model).pretrained_cfg.input.size == (32, 32)


def test_two_revisions_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="names a revision already; got revision 'v2"):
        zoo.from_pretrained("org/name@v1.0.0", revision="v2.0.0")


def test_the_package_holds_the_weights_alone() -> None:
    with pytest.raises(ConfigError, match="`convattn export resnet_nano"):
        fetch_model("resnet_nano.digits", everything=True)
