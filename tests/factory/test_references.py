"""What a reference states holds: its tag, and one revision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.errors import ConfigError, NotFoundError, UnknownModelError
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


@pytest.mark.parametrize("pretrained", ["fashion_mnist", "false", 1, None])
def test_only_true_and_false_are_pretrained(pretrained: Any) -> None:
    with pytest.raises(ConfigError, match="pretrained must be True or False; got"):
        zoo.create_model("convit_nano", pretrained)
    if isinstance(pretrained, str):
        advice = rf"a tag belongs to the name, ARCH\.TAG: convit_nano\.{pretrained}, with"
        with pytest.raises(ConfigError, match=advice):
            zoo.create_model("convit_nano.digits", pretrained=pretrained)


JOB = zoo.Job(model="convit_nano", data="digits")
FLAGS: dict[str, Callable[[Any], Any]] = {
    "features_only": lambda flag: zoo.create_model("convit_nano", features_only=flag),
    "with_tags": lambda flag: zoo.list_models(with_tags=flag),
    "pretrained": lambda flag: zoo.list_models(pretrained=flag),
    "everything": lambda flag: zoo.fetch_model("convit_nano", everything=flag),
    "ema": lambda flag: zoo.import_checkpoint("x.pth", "convit_nano", "out", ema=flag),
    "overwrite": lambda flag: zoo.train(
        zoo.Job(model="convit_nano", data="digits"), "out", overwrite=flag
    ),
}


@pytest.mark.parametrize("name", FLAGS)
def test_text_is_no_flag(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be True or False; got 'false'"):
        FLAGS[name]("false")


def test_from_pretrained_takes_no_flag_of_that_name() -> None:
    with pytest.raises(ConfigError, match="no argument 'pretrained'"):
        zoo.from_pretrained("convit_nano", pretrained=True)


def test_a_path_is_a_directory_wherever_a_reference_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for missing in (Path("convit_nano"), Path("org/name"), tmp_path / "run"):
        for function in (zoo.create_model, zoo.from_pretrained):
            with pytest.raises(UnknownModelError, match="neither a model name nor a directory"):
                function(missing)
    for folder in (Path("digits"), Path("cifar10:DIR")):
        with pytest.raises(NotFoundError, match=f"no such folder: '{folder}'"):
            zoo.open_dataset(folder)


@pytest.mark.parametrize("wrong", [None, 5, b"convit_nano", ["convit_nano"]])
def test_what_is_neither_text_nor_a_path_is_refused(wrong: Any) -> None:
    functions = (zoo.create_model, zoo.from_pretrained, zoo.get_record, zoo.fetch_model)
    for function in (*functions, zoo.open_dataset):
        with pytest.raises(ConfigError, match="must be text or a path; got"):
            function(wrong)
