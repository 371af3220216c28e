"""A directory gets its name only if its files make the model again; no state of the process, and
nothing that was done to the model, ends in a raw error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import export
import zoo
from export.formats.surroundings import clean_room
from zoo.errors import ExportError, WeightsFileError
from zoo.weights.safetensors_file import read_tensors, weights_bytes

SPEC = export.ExportSpec(batches=(1, 2))


@pytest.fixture
def model() -> Any:
    return zoo.create_model("resnet_nano", pretrained=True)


class Adapter(nn.Module):
    """A linear layer with something of low rank beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + self.up(self.down(x))
        return out


def _out_of_float32(model: Any) -> None:
    model.double().get_classifier().weight.data.mul_(1 + 1e-12)


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "adapter": (lambda m: m._set_classifier(Adapter(m.get_classifier())), "does not fit"),
    "weight norm": (lambda m: parametrizations.weight_norm(m.get_classifier()), "does not fit"),
    "pruned": (lambda m: prune.l1_unstructured(m.get_classifier(), "weight", 0.5), "does not fit"),
    "hook": (lambda m: m.register_forward_hook(lambda _, x, y: 2 * y), "answers differently by"),
    "float64": (_out_of_float32, r"\(torch.float64\) is not what torch.float32 holds"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("change", CHANGES)
def test_what_its_files_would_not_make_again_is_refused_before_it_is_exported(
    model: Any, change: str, tmp_path: Path
) -> None:
    apply, why = CHANGES[change]
    apply(model)
    with pytest.raises(ExportError, match=f"would not make this model again.*{why}") as found:
        export.export_model(model, tmp_path / "out", ["torchscript"], SPEC)
    assert found.value.code == "not_rebuildable"
    assert "py:FILE.py:NAME" in str(found.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("classes", [3, 0])
def test_an_export_after_a_new_classifier_is_verified_and_loaded(
    model: Any, classes: int, tmp_path: Path
) -> None:
    model.reset_classifier(classes)
    out = tmp_path / "out"
    export.export_model(model, out, ["torchscript"], SPEC)
    assert export.verify_directory(out, spec=SPEC).reference == "recomputed"
    again: Any = zoo.create_model(str(out), pretrained=True)
    cfg = again.pretrained_cfg
    assert (again.num_classes, cfg.num_classes, cfg.labels) == (classes, classes, ())
    assert torch.equal(again.layer0[0].weight, model.layer0[0].weight)


def test_a_directory_of_maps_is_verified_too(tmp_path: Path) -> None:
    model = zoo.create_model("fcvit_nano", pretrained=True, features_only=True)
    spec = export.ExportSpec(batches=(1,))
    export.export_model(model, tmp_path / "out", ["torchscript"], spec)
    report = export.verify_directory(tmp_path / "out", spec=spec).report
    assert report
    outputs = {row.output for row in report.rows if row.file == "model.pt"}
    assert len(outputs) == 3
    assert all(name.startswith("features.") for name in outputs)


def test_layers_that_are_one_are_written_twice(tmp_path: Path) -> None:
    model: Any = zoo.create_model("convit_nano", pretrained=True)
    model.blocks[1].mlp = model.blocks[2].mlp
    found = read_tensors(weights_bytes(model), "tied")
    assert found.keys() == model.state_dict().keys()
    key = "blocks.{}.mlp.fc1.weight"
    assert torch.equal(found[key.format(1)], found[key.format(2)])
    export.export_model(model, tmp_path / "out", ["torchscript"], SPEC)
    assert export.verify_directory(tmp_path / "out", spec=SPEC).report


def test_a_state_dict_with_other_things_than_tensors_is_refused() -> None:
    class Packed(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"scale": 2}

        def set_extra_state(self, state: Any) -> None:
            pass

    with pytest.raises(WeightsFileError, match="_extra_state of the state dict is dict, no tensor"):
        weights_bytes(Packed(2, 2))


def test_a_pruned_model_names_what_makes_it_permanent(model: Any, tmp_path: Path) -> None:
    prune.l1_unstructured(model.get_classifier(), "weight", 0.5)
    with pytest.raises(ExportError, match=r"cannot be copied.*prune\.remove"):
        export.to_torchscript(model, tmp_path / "m.pt", SPEC)
    prune.remove(model.get_classifier(), "weight")
    assert export.to_torchscript(model, tmp_path / "m.pt", SPEC)


@contextlib.contextmanager
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def _autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield
        assert torch.is_autocast_enabled("cpu")


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    with torch.device("meta"):
        yield
        assert torch.get_default_device().type == "meta"


STATES = [_autocast, _float64, _elsewhere, torch.inference_mode]


@pytest.mark.parametrize("state", STATES)
def test_exports_and_checks_do_not_depend_on_the_state_of_the_process(
    model: Any, state: Any, tmp_path: Path
) -> None:
    spec = export.ExportSpec(batches=(2,))
    with state():
        export.export_model(model, tmp_path / "out", ["torchscript"], spec)
        assert export.verify_directory(tmp_path / "out", spec=spec).report


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("write", [export.to_onnx, export.to_pt2])
def test_graphs_do_not_depend_on_it_either(state: Any, write: Any, tmp_path: Path) -> None:
    with state():
        with torch.device("cpu"):
            net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, dtype=torch.float32)).eval()
        input = zoo.InputSpec(size=(2, 2))
        assert write(net, tmp_path / "m.onnx", export.ExportSpec(batches=(2,)), input=input)


def test_the_state_is_put_back_after_an_error() -> None:
    with _float64(), _autocast(), _elsewhere():
        with pytest.raises(KeyError):
            _fail()


@clean_room()
def _fail() -> None:
    assert torch.get_default_dtype() == torch.float32
    assert torch.zeros(1).device.type == "cpu"
    assert not torch.is_autocast_enabled("cpu")
    raise KeyError


def test_a_compiled_model_is_exported_as_the_module_it_was_made_of(
    model: Any, tmp_path: Path
) -> None:
    compiled: Any = torch.compile(model)
    assert export.to_torchscript(compiled, tmp_path / "m.pt", SPEC)
    made = export.export_model(compiled, tmp_path / "out", ["torchscript"], SPEC)
    assert made.report.name == "resnet_nano.digits"
    assert made.report.weights_sha256 == model.pretrained_cfg.sha256
