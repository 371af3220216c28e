"""The model repository for Triton: fields are in the server's schema and say what the file is."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

import export
import zoo
from export.formats.triton import MOST_IMAGES, triton_config
from export.spec import ExportSpec
from zoo.errors import ConfigError
from zoo.factory.create import create_random

# (field, type, repeated) in model_config.proto of github.com/triton-inference-server/common
SCHEMA = {
    "ModelInput": [("name", "string", 0), ("data_type", ".DataType", 0), ("dims", "int64", 1)],
    "ModelOutput": [("name", "string", 0), ("data_type", ".DataType", 0), ("dims", "int64", 1),
                    ("label_filename", "string", 0)],
    "ModelDynamicBatching": [("preferred_batch_size", "int32", 1)],
    "ModelConfig": [("name", "string", 0), ("platform", "string", 0),
                    ("max_batch_size", "int32", 0), ("input", ".ModelInput", 1),
                    ("output", ".ModelOutput", 1),
                    ("dynamic_batching", ".ModelDynamicBatching", 0)],
}  # fmt: skip
DATA_TYPES = {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP16": 10, "TYPE_FP32": 11, "TYPE_FP64": 12}


def parse(text: str) -> object:
    """The text as a ModelConfig; an unknown field or a wrong type raises."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", syntax="proto3")
    kinds = file.enum_type.add(name="DataType")
    for name, number in DATA_TYPES.items():
        kinds.value.add(name=name, number=number)
    for message, entries in SCHEMA.items():
        made = file.message_type.add(name=message)
        for place, (name, kind, repeated) in enumerate(entries, start=1):
            field = made.field.add(name=name, number=place, label=3 if repeated else 1)
            if kind.startswith("."):
                field.type, field.type_name = (14 if kind == ".DataType" else 11), kind
            else:
                field.type = {"string": 9, "int64": 3, "int32": 5}[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("ModelConfig"))
    return text_format.Parse(text, config())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("served") / "out"
    model = zoo.create_model("convit_nano", pretrained=True)
    export.export_model(model, out, ["onnx"], ExportSpec(batches=(1, 2)), serving="triton")
    return out


def test_the_configuration_says_what_the_file_takes_and_gives(served: Path) -> None:
    home = served / "triton" / "convit_nano_digits"
    config = parse((home / "config.pbtxt").read_text())
    assert config.name == home.name  # the server wants the folder's name
    assert (config.platform, config.max_batch_size) == ("onnxruntime_onnx", MOST_IMAGES)
    (image,), (logits,) = config.input, config.output
    assert (image.name, list(image.dims)) == ("pixel_values", [3, 32, 32])
    assert (logits.name, list(logits.dims)) == ("logits", [10])
    assert {image.data_type, logits.data_type} == {DATA_TYPES["TYPE_FP32"]}
    assert config.HasField("dynamic_batching")
    assert (home / logits.label_filename).read_text().split() == list("0123456789")
    graph = onnx.load(home / "1" / "model.onnx").graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param  # the batch, which is left out


def test_the_copy_is_the_exported_file_and_is_verified_too(served: Path) -> None:
    copy = served / "triton/convit_nano_digits/1/model.onnx"
    assert copy.read_bytes() == (served / "onnx/model.onnx").read_bytes()
    found = export.verify_directory(served, levels=("all",), spec=ExportSpec(batches=(1,)))
    assert found.report
    assert copy.relative_to(served).as_posix() in {row.file for row in found.report.rows}
    assert {path for path in found.manifest.paths if path.startswith("triton/")} == {
        f"triton/convit_nano_digits/{name}"
        for name in ("1/model.onnx", "config.pbtxt", "labels.txt")
    }


def test_free_sizes_and_missing_labels(tmp_path: Path) -> None:
    spec = ExportSpec(batches=(1,), dynamic_size=True)
    export.to_onnx(create_random("resnet_nano", 0), tmp_path / "m.onnx", spec)
    config = parse(triton_config((tmp_path / "m.onnx").read_bytes(), "resnet_nano", labelled=False))
    assert list(config.input[0].dims) == [3, -1, -1]
    assert config.output[0].label_filename == ""


def test_what_cannot_be_served_is_refused_before_work(tmp_path: Path) -> None:
    model = create_random("convit_nano", 0)
    with pytest.raises(ConfigError, match="add the format onnx"):
        export.export_model(model, tmp_path, ["pt2"], serving="triton")
    with pytest.raises(ConfigError, match="serving are triton; got"):
        export.export_model(model, tmp_path, ["onnx"], serving="other")
    assert not list(tmp_path.iterdir())


def test_a_field_that_the_server_does_not_know_would_be_found() -> None:
    with pytest.raises(text_format.ParseError, match="no field named"):
        parse('name: "x"\nbatching: 3\n')
