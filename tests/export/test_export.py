"""ONNX and TorchScript files: what they hold, that they run, and that failures leave nothing."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import export
import zoo
from export.runtime.opening import open_onnx, open_predictor
from export.spec import ExportSpec
from tests.contract.helpers import each_builder
from tests.surroundings import as_a_user
from zoo.catalog.registry import families
from zoo.catalog.tables import read_costs
from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError, ExportError, IntegrityError, ParityError, ResourceError
from zoo.factory.create import create_random

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))
ROOTS = b"|".join(b"/" + name for name in (b"home/", b"root/", b"usr/", b"work", b"tmp/", b"opt/"))
MACHINE_PATH = re.compile(ROOTS + rb"|site-packages|[A-Za-z]:\\\\")


def tiny_input(family: str) -> InputSpec:
    config = families()[family].tiny
    side = config.get("img_size", 32)
    size = (side, side) if isinstance(side, int) else tuple(side)
    return InputSpec(size=size, in_chans=config.get("in_chans", 3))


def tiny_model(family: str, **changes: Any) -> nn.Module:
    from zoo.factory.building import construct

    torch.manual_seed(0)
    return construct(families()[family].builder, {**families()[family].tiny, **changes}).eval()


def one_block(**changes: Any) -> nn.Module:
    """A ConViT of one block on patches of 4 pixels, with ten classes."""
    return create_random("convit_nano", 0, **{"depth": 1, "local_up_to_layer": 1, **changes})


@each_builder
def test_every_family_exports_to_onnx(family: str, tmp_path: Path) -> None:
    report = export.to_onnx(tiny_model(family), tmp_path / "m.onnx", input=tiny_input(family))
    assert report
    assert {row.batch for row in report.rows} == {1, 2, 5}
    kinds = {"noise", "real", "constant", "extreme", "neighbours"}
    assert {row.inputs for row in report.rows} == kinds
    assert (tmp_path / "m.onnx").is_file()


@each_builder
def test_every_family_exports_to_torchscript(family: str, tmp_path: Path) -> None:
    report = export.to_torchscript(tiny_model(family), tmp_path / "m.pt", input=tiny_input(family))
    assert report
    assert (tmp_path / "m.pt").is_file()


FULL_SIZE = ("convit_tiny", "conv_attention_vit_tiny", "alternet_18")


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_models_export_in_every_format(name: str, tmp_path: Path) -> None:
    result = export.export_model(
        create_random(name, 0), tmp_path, ["onnx", "torchscript", "pt2"], precisions=["float16"]
    )
    assert result.report


def _real_sizes() -> list[str]:
    """The smallest model of every class that is not a nano one."""
    costs, found = read_costs(), {}
    for family in families().values():
        for name in family.variants:
            if not name.endswith("nano") and costs[name]["params"] <= 100e6:
                known = found.setdefault(family.builder, name)
                found[family.builder] = min(known, name, key=lambda n: costs[n]["params"])
    return sorted({*found.values()} - {*FULL_SIZE})


@pytest.mark.slow
@pytest.mark.parametrize("name", _real_sizes())
def test_a_real_size_of_every_class_exports(name: str, tmp_path: Path) -> None:
    assert export.to_onnx(create_random(name, 0), tmp_path / "m.onnx", ExportSpec(batches=(1,)))


@pytest.mark.parametrize("gating", ["learned", "none"])
def test_learned_position_biases_export(gating: str, tmp_path: Path) -> None:
    assert export.to_onnx(one_block(gating=gating), tmp_path / "m.onnx")


def test_the_directory_has_the_files_of_the_contract(exported: Path) -> None:
    names = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    assert names == {
        "config.json",
        "manifest.json",
        "model.pt",
        "model.safetensors",
        "onnx/model.onnx",
        "parity.json",
        "test_data_set_0/eager_float32_error.pb",
        "test_data_set_0/input_0.pb",
        "test_data_set_0/output_0.pb",
        "test_data_set_0/samples.json",
    }


def test_the_graph_is_clean(exported: Path) -> None:
    model = onnx.load(exported / "onnx" / "model.onnx")
    assert [(e.domain, e.version) for e in model.opset_import] == [("", 23)]
    assert {node.domain for node in model.graph.node} == {""}
    kinds = [node.op_type for node in model.graph.node]
    assert "Attention" in kinds
    assert not {"If", "Loop", "Scan", "Shape", "Expand", "Range"} & set(kinds)
    assert model.graph.input[0].name == "pixel_values"
    assert model.graph.output[0].name == "logits"
    first, *rest = model.graph.input[0].type.tensor_type.shape.dim
    assert first.dim_param == "batch"
    assert [d.dim_value for d in rest] == [3, 32, 32]


def test_the_file_says_what_it_is(exported: Path) -> None:
    model = onnx.load(exported / "onnx" / "model.onnx")
    said = {entry.key: entry.value for entry in model.metadata_props}
    record = zoo.get_record("convit_nano").selected
    assert record is not None
    assert said["name"] == "convit_nano.digits"
    assert said["version"] == record.version
    assert said["weights_sha256"] == record.sha256
    assert said["opset"] == "23"
    assert torch.__version__.split("+")[0] in said["exporter"]
    assert json.loads(said["labels"]) == [str(d) for d in range(10)]
    assert json.loads(said["input"])["input_size"] == [3, 32, 32]
    assert json.loads(said["input"])["interpolation"] == "bicubic"


def test_no_file_names_the_machine(exported: Path) -> None:
    for path in (p for p in exported.rglob("*") if p.is_file()):
        contents = [path.read_bytes()]
        if path.suffix == ".pt":
            with zipfile.ZipFile(path) as archive:
                contents = [archive.read(name) for name in archive.namelist()]
                assert not [n for n in archive.namelist() if n.endswith(".debug_pkl")]
        for content in contents:
            found = MACHINE_PATH.search(content)
            assert found is None, f"{path.name}: {found}"


@pytest.mark.exports_anew
def test_two_exports_are_byte_identical(exported: Path, tmp_path: Path) -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    export.export_model(model, tmp_path, formats=["onnx"])
    for name in ("onnx/model.onnx", "model.safetensors", "config.json"):
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes(), name


def test_the_exported_files_answer_as_the_model_does(exported: Path) -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    expected = [p.label for p in zoo.Predictor.from_model(model).predict(EXAMPLES)]
    for file in ("onnx/model.onnx", "model.pt"):
        assert [p.label for p in open_predictor(exported / file).predict(EXAMPLES)] == expected


def test_the_directory_is_a_model_reference(exported: Path) -> None:
    model = zoo.create_model(str(exported), pretrained=True).eval()
    original = zoo.create_model("convit_nano", pretrained=True).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), original(x))
    assert model.pretrained_cfg == original.pretrained_cfg


class _Drifting(nn.Module):
    """A module whose traced and exported form differs from its float64 form."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 3, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        offset = 0.0 if x.dtype == torch.float64 else 1e-3
        return (x * self.weight).flatten(1)[:, :5] + offset


SPEC8 = InputSpec(size=(8, 8), crop_pct=1.0)


@pytest.mark.parametrize("write", [export.to_onnx, export.to_torchscript])
def test_a_failing_verdict_leaves_no_file(write: Any, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="differs from the float64 reference by") as caught:
        write(_Drifting(), tmp_path / "model.bin", input=SPEC8)
    assert caught.value.exit_code == 7
    assert not caught.value.report
    assert caught.value.report.failures
    assert list(tmp_path.iterdir()) == []


def test_a_failing_export_keeps_the_earlier_one(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    model = zoo.create_model("convit_nano", pretrained=True)
    monkeypatch.setattr("export.directory.require_parity", _fail)
    with pytest.raises(ParityError):
        export.export_model(model, out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def _fail(*_: object) -> None:
    raise ParityError("no")


def test_fewer_formats_leave_no_stale_files(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    model = zoo.create_model("convit_nano", pretrained=True)
    export.export_model(model, out, formats=["onnx"], overwrite=True)
    assert not (out / "model.pt").exists()
    assert export.verify_directory(out).report


def test_modules_from_elsewhere_are_anonymous(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    export.to_onnx(module, tmp_path / "m.onnx", input=SPEC8)
    said = {e.key: e.value for e in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert said["name"] == "anonymous"


def test_modules_without_an_input_spec_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="input=InputSpec"):
        export.to_onnx(nn.Flatten(), tmp_path / "m.onnx")


class _FixedBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1)[:, :4]


@pytest.mark.parametrize("write", [export.to_onnx, export.to_torchscript])
def test_a_forward_that_fixes_the_batch_is_refused(write: Any, tmp_path: Path) -> None:
    module = _FixedBatch()
    module.register_parameter("p", nn.Parameter(torch.zeros(1)))
    with pytest.raises(ExportError, match="batch"):
        write(module, tmp_path / "m.bin", input=SPEC8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [17, 26])
def test_a_file_is_of_the_opset_asked_for_or_not_written(opset: int, tmp_path: Path) -> None:
    """torch's exporter has written 18 for 17, and an invalid file for 26, without a word."""
    try:
        export.to_onnx(
            tiny_model("convit"), tmp_path / "m.onnx", ExportSpec(opset=opset),
            input=tiny_input("convit"),
        )  # fmt: skip
    except (ConfigError, ExportError) as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert re.search(r"opset|export", refusal)
        assert list(tmp_path.iterdir()) == []
    else:
        assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == opset


def test_unknown_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="torchscript"):
        export.export_model(zoo.create_model("convit_nano"), tmp_path, formats=["tflite"])


def test_a_directory_without_rights_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with as_a_user(), pytest.raises(ResourceError, match="choose a directory"):
        export.export_model(zoo.create_model("convit_nano"), tmp_path / "out")


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write") as caught:
        export.export_model(zoo.create_model("convit_nano"), tmp_path / "file" / "out")
    assert caught.value.code == "not_writable"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("export.directory.write_test_data", full)
    with pytest.raises(ResourceError, match="No space left") as caught:
        export.export_model(zoo.create_model("convit_nano"), tmp_path)
    assert caught.value.code == "disk_full"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
@pytest.mark.parametrize("limit", [100_000, 1_260_000, 1_300_000])
def test_a_file_size_limit_is_a_typed_error_and_leaves_nothing(limit: int, tmp_path: Path) -> None:
    """The limit strikes at different writers: weights, ONNX, TorchScript."""
    import resource

    model = zoo.create_model("convit_nano", pretrained=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(ResourceError) as caught:
            export.export_model(model, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.code == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_torchscript_runs_wherever_it_lies_if_it_was_exported_here(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(exported / "model.pt", tmp_path / "model.pt")
    own = open_predictor(tmp_path / "model.pt")
    monkeypatch.setenv("CONVATTN_HOME", str(tmp_path / "of_another_user"))
    for place in (tmp_path, exported):
        with pytest.raises(IntegrityError, match="--trust-code") as caught:
            open_predictor(place / "model.pt")
        assert caught.value.code == "code_not_trusted"
    trusted = open_predictor(exported / "model.pt", trust_code=True)
    assert trusted(EXAMPLES[7]).label == own(EXAMPLES[7]).label == "7"


def test_a_changed_torchscript_file_is_not_executed(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    data = bytearray((out / "model.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (out / "model.pt").write_bytes(data)
    with pytest.raises(IntegrityError, match="SHA-256"):
        open_predictor(out / "model.pt")


def test_a_damaged_onnx_file_is_a_typed_error(exported: Path, tmp_path: Path) -> None:
    data = (exported / "onnx" / "model.onnx").read_bytes()
    for content in (data[: len(data) // 3], b"", b"<html>"):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(ExportError, match="cannot be opened") as caught:
            open_onnx(tmp_path / "m.onnx")
        assert "/onnxruntime" not in str(caught.value)


def test_a_foreign_onnx_file_says_what_is_missing(tmp_path: Path) -> None:
    from export.runtime.doctor import PROBE

    (tmp_path / "foreign.onnx").write_bytes(PROBE)
    with pytest.raises(ConfigError, match="no 'input' metadata"):
        open_predictor(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (3, 32, 32), (0, 3, 32, 32), (1, 3, 31, 32)])
def test_wrong_inputs_are_typed_errors(exported: Path, shape: tuple[int, ...]) -> None:
    from zoo.errors import InputError

    session = open_onnx(exported / "onnx" / "model.onnx")
    with pytest.raises(InputError, match="batch, 3, 32, 32"):
        session.run(np.zeros(shape, np.float32))


def test_a_hub_model_of_another_alias_exports(tmp_path: Path) -> None:
    """torch.hub loads `zoo` under an alias, whose classes are not ours."""
    hub = torch.hub.load(
        str(Path(__file__).parents[2]), "convit_nano", source="local", depth=1, local_up_to_layer=1
    )
    assert type(hub).__module__ != "zoo.models.convit"
    report = export.to_onnx(copy.deepcopy(hub), tmp_path / "m.onnx")
    assert report.name == "convit_nano"
