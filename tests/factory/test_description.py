"""What a model says of itself stays true when its classifier or its weights are changed."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import export
import zoo
from zoo.errors import ConfigError
from zoo.factory.create import create_from_file
from zoo.factory.description import PretrainedCfg
from zoo.files.local import sha256_file
from zoo.weights.fingerprint import fingerprint, has_tensors

NANO = "convit_nano"
DIGEST = zoo.get_record(NANO).selected.sha256  # type: ignore[union-attr]
VERSION = zoo.get_record(NANO).selected.version  # type: ignore[union-attr]


@pytest.fixture
def model() -> Any:
    return zoo.create_model(NANO, pretrained=True)


def now(model: Any) -> PretrainedCfg:
    found = PretrainedCfg.of(model)
    assert found is not None
    return found


@pytest.mark.parametrize("classes", [3, 10, 0])
def test_a_reset_classifier_is_described_as_one_that_was_asked_for(
    model: Any, classes: int
) -> None:
    asked = now(zoo.create_model(NANO, pretrained=True, num_classes=classes))
    model.reset_classifier(classes)
    if classes == 10:  # there the file's classifier was loaded, here it is new
        asked = replace(asked, sha256="", version="")
    assert model.pretrained_cfg == now(model) == asked
    assert model.pretrained_cfg.labels == (model.pretrained_cfg.labels if classes == 10 else ())
    assert bool(now(model).sha256) == (classes == 0)


def test_another_number_of_classes_is_no_published_version() -> None:
    cfg = now(zoo.create_model(NANO, pretrained=True, num_classes=3))
    assert (cfg.tag, cfg.version, cfg.sha256) == ("digits", "", "")


@pytest.mark.parametrize("classes", [-1, "5", True, 2.0, None])
def test_a_classifier_of_an_impossible_width_is_refused_as_by_the_constructor(
    model: Any, classes: Any
) -> None:
    before = model.get_classifier()
    with pytest.raises(ConfigError) as asked:
        zoo.create_model(NANO, num_classes=classes)
    with pytest.raises(ConfigError) as reset:
        model.reset_classifier(classes)
    assert str(reset.value) == str(asked.value)
    assert model.get_classifier() is before
    assert model.num_classes == 10


def test_numbers_of_numpy_are_widths_too(model: Any) -> None:
    model.reset_classifier(np.int64(4))
    assert type(model.num_classes) is int
    assert now(model).num_classes == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda m: [p.data.add_(1e-3 * torch.randn_like(p)) for p in m.parameters()],
        lambda m: m.norm.bias.data[0].add_(1e-6),
        lambda m: m.half(),
        lambda m: m.half().float(),
        lambda m: setattr(m, "blocks", m.blocks[:2]),
        lambda m: m.blocks[0].attn.proj.weight.data.copy_(
            m.blocks[0].attn.proj.weight.data.flip(0)
        ),
        lambda m: torch.nn.utils.parametrizations.weight_norm(m.get_classifier()),
    ],
    ids=["noise", "one value", "half", "half and back", "fewer blocks", "rows", "parametrised"],
)
def test_changed_weights_have_neither_digest_nor_version(model: Any, change: Any) -> None:
    change(model)
    assert (now(model).name, now(model).version, now(model).sha256) == (
        "convit_nano.digits",
        "",
        "",
    )
    spec = zoo.InputSpec(size=(32, 32))
    assert zoo.Predictor.from_model(model, input=spec).weights_sha256 == ""


@pytest.mark.parametrize(
    "change",
    [
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: m.to("cpu").eval().requires_grad_(False),
        lambda m: m.double(),
        lambda m: m.double().float(),
        lambda m: m.to(memory_format=torch.channels_last),
    ],
    ids=["copy", "pickle", "device", "double", "double and back", "layout"],
)
def test_the_same_values_are_still_the_file(model: Any, change: Any) -> None:
    assert (now(change(model)).sha256, now(change(model)).version) == (DIGEST, VERSION)


def test_a_digest_that_somebody_states_afterwards_is_his(model: Any) -> None:
    model.norm.bias.data.add_(1)
    model.pretrained_cfg = replace(model.pretrained_cfg, sha256="f" * 64)
    assert now(model).sha256 == "f" * 64


def test_weights_of_a_file_are_compared_too(model: Any, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "w.pth")
    found: Any = create_from_file(NANO, str(tmp_path / "w.pth"))
    assert now(found).sha256 == sha256_file(tmp_path / "w.pth")
    found.norm.bias.data.add_(1e-3)
    assert now(found).sha256 == ""


def test_a_model_of_others_that_was_reset_is_described_by_its_own_width() -> None:
    class TheirNet(torch.nn.Module):
        num_classes, pretrained_cfg = 10, now(zoo.create_model(f"{NANO}.digits"))

        def reset_classifier(self, num_classes: int) -> None:
            self.num_classes = num_classes

    model = TheirNet()
    model.reset_classifier(3)
    assert (now(model).num_classes, now(model).labels) == (3, ())


def test_long_tensors_are_told_apart_by_any_value_and_by_its_place() -> None:
    layer = torch.nn.Linear(300, 700)
    marks = fingerprint(layer)
    assert has_tensors(layer, marks, without_classifier=False)
    for row, other in ((0, 1), (3, 600), (698, 699)):
        moved = copy.deepcopy(layer)
        moved.weight.data[[row, other]] = layer.weight.data[[other, row]]
        assert not has_tensors(moved, marks, without_classifier=False)
    for place in (0, 4092 * 2, 209_999):
        bent = copy.deepcopy(layer)
        bent.weight.data.view(-1)[place] += 1e-4
        assert not has_tensors(bent, marks, without_classifier=False)


def test_a_file_of_another_number_of_classes_does_not_carry_the_old_labels(
    model: Any, tmp_path: Path
) -> None:
    model.reset_classifier(3)
    export.to_torchscript(model, tmp_path / "r.pt", export.ExportSpec(batches=(1,)))
    _, stated = export.open_file(tmp_path / "r.pt")
    assert (stated["labels"], stated["weights_sha256"], stated["version"]) == ([], "", "")
    found = export.open_predictor(tmp_path / "r.pt")(np.zeros((32, 32, 3), np.uint8))
    assert set(found.labels) == {"0", "1", "2"}
