"""Every family in every format, on its tiny configuration: axes, precisions, outputs."""

from __future__ import annotations

import copy
import getpass
import re
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from torch import nn

import export
import zoo
from export.formats.metadata import describe
from export.formats.outputs import form_with
from export.formats.pt2_file import load_pt2
from export.graph.preprocessing import with_preprocessing
from export.runtime.opening import open_onnx
from export.spec import ExportSpec
from export.writer import ArtefactWriter
from zoo.catalog.registry import families
from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError, ExportError
from zoo.factory.create import create_random

from .test_export import MACHINE_PATH, SPEC8, one_block, tiny_input, tiny_model

FAMILIES = zoo.list_families()
ONLY_NUMBERS = ("resnext", "wideresnet")  # ResNet's graph with other widths
SHALLOW = {"hdvw_pit": {"depths": (1, 1, 1)}}  # each kind of layer
PART = ("alternet", "cbamresnet", "convit", "fcvit", "prevgg")  # of each kind of graph one


def some(families: list[str], quick: tuple[str, ...]) -> list[Any]:
    """All families, those that are not in `quick` marked slow."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=[] if name in quick else [slow]) for name in families]


FIXED = [name for name in FAMILIES if "dynamic-size" in families()[name].not_exportable]


def writer(
    family: str, folder: Path, spec: ExportSpec | None = None, **changes: Any
) -> ArtefactWriter:
    model, input = tiny_model(family, **changes), tiny_input(family)
    return ArtefactWriter(model, describe(model, input), spec or ExportSpec(), folder)


@pytest.mark.parametrize("family", some(FAMILIES, PART))
def test_every_family_exports_to_pt2(family: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    model, input = tiny_model(family), tiny_input(family)
    assert export.to_pt2(model, path, input=input)
    images = torch.zeros(0, input.in_chans, *input.size)
    assert torch.export.load(path).module()(images).shape == model.eval()(images).shape
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            found = MACHINE_PATH.search(content := archive.read(name))
            assert found is None, f"{name}: {found}"
            assert str(Path(zoo.__file__).parent).encode() not in content
            assert getpass.getuser().encode() + b"/" not in content


@pytest.mark.parametrize("family", some(FAMILIES, PART))
def test_every_family_exports_in_every_precision(family: str, tmp_path: Path) -> None:
    made = writer(family, tmp_path)
    for precision in ("float16", "int8", "int8-static"):
        made.write_precision(precision)
    assert all(row.passed for row in made.rows)
    assert {row.precision for row in made.rows} == {"float16", "int8"}
    for name in ("model_fp16", "model_quantized", "model_int8"):
        proto = onnx.load(tmp_path / "onnx" / f"{name}.onnx")
        assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
        (first,) = proto.graph.input
        assert first.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert proto.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        kinds = {node.op_type for node in proto.graph.node}
        if name == "model_int8":
            assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
        if name == "model_quantized":
            assert "DynamicQuantizeLinear" in kinds


@pytest.mark.parametrize("family", some(FAMILIES, ("convit", "resnet")))
def test_every_family_exports_with_preprocessing(family: str, tmp_path: Path) -> None:
    made = writer(family, tmp_path)
    if made.cfg.input.in_chans not in (1, 3):
        pytest.skip("its images have another number of channels")
    made.write_extra("preprocessing")
    assert all(row.passed for row in made.rows)
    assert {row.size for row in made.rows} == {(37, 53), (97, 61), (224, 224), (301, 401)}


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ONLY_NUMBERS])
def test_every_family_exports_what_is_inside(family: str, tmp_path: Path) -> None:
    made = writer(family, tmp_path, **SHALLOW.get(family, {}))
    made.write_extra("embeddings")
    made.write_extra("features")
    with_attention = any(hasattr(m, "attention_weights") for m in made.model.modules())
    if with_attention:
        made.write_extra("attention")
    assert all(row.passed for row in made.rows)
    names = {row.output for row in made.rows}
    assert {"logits", "pooler_output"} < names
    assert any(name.startswith("attentions.") for name in names) is with_attention


@pytest.mark.parametrize(
    "family",
    some([name for name in FAMILIES if name not in (*FIXED, *ONLY_NUMBERS)], ("resnet",)),
)
def test_height_and_width_are_dynamic(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, **SHALLOW.get(family, {}))
    spec = ExportSpec(dynamic_size=True)
    stride = _stride(model, family)
    input = InputSpec(size=(8 * stride, 8 * stride), in_chans=tiny_input(family).in_chans)
    sizes = {input.size, (5 * stride, 7 * stride), (11 * stride, 3 * stride)}
    least = getattr(model, "min_size", 1)
    between = {(9 * stride + 1, 2 * stride - 1), (4 * stride - 1, 3 * stride + 1)}
    between = {(max(h, least), max(w, least)) for h, w in between}
    for write, file, wanted in (
        (export.to_onnx, "m.onnx", sizes | between),
        (export.to_pt2, "m.pt2", sizes),
    ):
        report = write(model, tmp_path / file, spec, input=input)
        assert report
        assert {row.size for row in report.rows} == wanted
    stated = onnx.load(tmp_path / "m.onnx").graph.input[0].type.tensor_type.shape.dim
    end = f"_from_{least}" if least > 1 else ""
    assert [d.dim_param for d in stated][2:] == [f"height{end}", f"width{end}"]
    pt2, whole = load_pt2(tmp_path / "m.pt2")[0], [(2, 2), (3, 2), (2, 7), (5, 3)]
    for h, w in whole:
        assert _off(pt2, model, (h * stride, w * stride), input.in_chans) < 1e-5
    # as any runtime without a word of ours: windows divide it or not, one window or less, prime
    plain = InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    odd = [(1, 1), (2, 5), (3, 70), (17, 23), (stride + 1, 2 * stride + 3), (64, 37)]
    for h, w in [(h * stride, w * stride) for h, w in whole] + odd:
        size = max(h, least), max(w, least)
        assert _off(partial(_plainly, plain), model, size, input.in_chans) < 1e-5, size


def _plainly(session: InferenceSession, x: np.ndarray) -> np.ndarray:
    return session.run(None, {"pixel_values": x})[0]


def _off(run: Any, model: nn.Module, size: tuple[int, int], in_chans: int) -> float:
    """Largest error at a size, in units of the largest logit or 1."""
    x = torch.randn(3, in_chans, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double()).numpy()
    return float(np.abs(run(x.numpy()) - expected).max() / max(1, np.abs(expected).max()))


# a pool follows the last feature of these
POOLED = {"alexnet": 16, "prevgg": 32, "vgg": 32}


def _stride(model: nn.Module, family: str) -> int:
    if family in POOLED:
        return POOLED[family]
    side = 8 * max(entry["reduction"] for entry in model.feature_info)
    last = model.forward_features(torch.zeros(1, tiny_input(family).in_chans, side, side))
    return side // last.shape[2] if last.ndim == 4 else side // 8


@pytest.mark.parametrize("family", FIXED)
def test_what_a_record_calls_impossible_is_refused_with_its_reason(
    family: str, tmp_path: Path
) -> None:
    name = next(iter(families()[family].variants))
    reason = families()[family].not_exportable["dynamic-size"]
    with pytest.raises(ExportError, match=re.escape(reason)) as caught:
        export.export_model(
            create_random(name, 0), tmp_path / "out", spec=ExportSpec(dynamic_size=True)
        )
    assert caught.value.code == "not_exportable"
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_size_that_is_no_multiple_of_the_stride_is_refused(tmp_path: Path) -> None:
    spec = ExportSpec(dynamic_size=True, whole_strides=True, img_size=(33, 32))
    with pytest.raises(ExportError, match=r"multiples of 4 pixels .* 33 x 32 is none"):
        export.to_onnx(create_random("convit_nano", 0), tmp_path / "m.onnx", spec)


def test_a_forward_that_fixes_the_size_is_refused_by_name(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4))
    spec = ExportSpec(dynamic_size=True)
    with pytest.raises(ExportError, match="Sequential with dynamic height and width"):
        export.to_onnx(module, tmp_path / "m.onnx", spec, input=InputSpec(size=(64, 64)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("write", "file"),
    [(export.to_onnx, "m.onnx"), (export.to_pt2, "m.pt2"), (export.to_torchscript, "m.pt")],
)
def test_any_fixed_size_can_be_exported(write: Any, file: str, tmp_path: Path) -> None:
    spec = ExportSpec(img_size=(24, 40))
    report = write(one_block(), tmp_path / file, spec)
    assert {row.size for row in report.rows} == {(24, 40)}


class _Overflowing(nn.Module):
    """Passes through numbers that float16 does not have, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = self.conv(x) * 3e5
        return self.linear(large.mean((2, 3)) / 3e5)


def test_nodes_that_overflow_stay_float32(tmp_path: Path) -> None:
    module = _Overflowing().eval()
    made = ArtefactWriter(module, describe(module, SPEC8), ExportSpec(), tmp_path)
    made.write_precision("float16")
    islands = made.attestation["onnx/model_fp16.onnx"]["float32_islands"]
    assert any("Mul" in entry and "numbers up to" in entry for entry in islands), islands
    assert all(row.passed for row in made.rows)
    proto = onnx.load(tmp_path / "onnx" / "model_fp16.onnx")
    stored = {w.data_type for w in proto.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in stored


def test_a_float16_graph_without_its_islands_fails() -> None:
    """The measurement has teeth: rounding everything in that graph gives no finite answer."""
    from export.formats.axes import Axes
    from export.formats.capture import capture
    from export.formats.onnx_file import translate
    from export.formats.outputs import own_form
    from export.parity.float16_search import _Graph, _output_error, emulate
    from export.parity.measure import References

    module, spec, axes = _Overflowing().eval(), ExportSpec(), Axes((8, 8))
    cfg = describe(module, SPEC8)
    proto = translate(capture(module, 3, axes), cfg, spec, axes)
    references = References(own_form(module), cfg, spec, axes)
    assert not _output_error(_Graph(emulate(proto, ())), references) <= spec.float16
    everything = {node.name for node in proto.graph.node}
    assert _output_error(_Graph(emulate(proto, everything)), references) < 1e-5


@pytest.mark.exports_anew
def test_conversions_are_byte_identical(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        made = writer("convit", tmp_path / folder, depth=2, local_up_to_layer=1)
        for precision in ("float16", "int8", "int8-static"):
            made.write_precision(precision)
        made.write_extra("preprocessing")
        made.write_format("pt2")
    for path in (p for p in (tmp_path / "a").rglob("*") if p.is_file()):
        twin = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == twin.read_bytes(), path.name


def test_features_are_the_models_own(tmp_path: Path) -> None:
    two = {
        "layers": (1, 1),
        "embed_dims": (16, 24),
        "mlp_ratios": (2, 2),
        "downsamples": (True, True),
    }
    made = writer("fcvit", tmp_path, **two)
    made.write_extra("features")
    x = torch.randn(2, 3, *made.cfg.input.size)
    answers = open_onnx(tmp_path / "onnx" / "model_features.onnx").run_named(x.numpy())
    with torch.no_grad():
        maps = made.model.forward_intermediates(x, intermediates_only=True)
    names = [f"features.{entry['module']}" for entry in made.model.feature_info]
    assert list(answers) == ["logits", *names]
    for name, expected in zip(names, maps, strict=True):
        assert answers[name].shape == tuple(expected.shape)
        assert np.abs(answers[name] - expected.numpy()).max() < 1e-4


def test_a_pyramid_for_dense_prediction_has_named_outputs(tmp_path: Path) -> None:
    model = zoo.create_model("resnet_nano", features_only=True)
    export.to_onnx(model, tmp_path / "m.onnx")
    names = [value.name for value in onnx.load(tmp_path / "m.onnx").graph.output]
    assert names == [f"features.layer{n}" for n in (1, 2, 3, 4)]  # the last of each resolution


def test_attention_rows_sum_to_one(tmp_path: Path) -> None:
    one = {"embed_dims": (16,), "depths": (2,), "num_heads": (2,), "mlp_dims": (32,), "pools": (2,)}
    made = writer("hdvw_swin", tmp_path, **one)  # windows, and shifted windows
    made.write_extra("attention")
    x = torch.randn(2, 3, *made.cfg.input.size)
    answers = open_onnx(tmp_path / "onnx" / "model_attention.onnx").run_named(x.numpy())
    maps = {name: value for name, value in answers.items() if name != "logits"}
    assert tuple(answers) == form_with(made.model, ("attention",)).outputs
    assert maps
    for value in maps.values():
        assert len(value) == 2
        assert np.abs(value.sum(-1) - 1).max() < 1e-5


def test_models_without_attention_say_so(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no layer with attention matrices"):
        writer("vgg", tmp_path).write_extra("attention")


def test_a_model_without_classifier_returns_pooler_output(tmp_path: Path) -> None:
    model = create_random("resnet_nano", 0, num_classes=0)
    report = export.to_onnx(model, tmp_path / "m.onnx")
    assert {row.output for row in report.rows} == {"pooler_output"}
    assert onnx.load(tmp_path / "m.onnx").graph.output[0].name == "pooler_output"


@pytest.mark.parametrize("size", [(480, 640), (61, 97), (33, 200), (427, 640)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_preprocessing_in_the_graph_is_pillows_to_a_grey_level(
    size: tuple[int, int], interpolation: str
) -> None:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    from export.parity.images import _grey_levels, _run_alone

    images = [Image.fromarray(image).resize(size[::-1]) for image in load_sample_images().images]
    batch = np.stack([np.asarray(image) for image in images])
    for spec in (
        InputSpec(size=(224, 224), interpolation=interpolation),
        InputSpec(size=(96, 160), interpolation=interpolation, crop_pct=0.95),
        InputSpec(size=(64, 64), interpolation=interpolation, in_chans=1, mean=(0.5,), std=(0.5,)),
    ):
        found = _grey_levels(_run_alone(spec, batch)[0], batch, spec)
        assert found["max"] <= 2.001, (spec, found)
        assert found["mean"] <= 0.1, (spec, found)


@pytest.mark.parametrize(
    ("one", "all_of_them", "passes"),
    [(2.9, 0.0, True), (3.1, 0.0, False), (0.0, 0.4, True), (0.0, 0.6, False)],
)
def test_pixels_that_are_off_by_more_than_a_rounding_are_refused(
    one: float, all_of_them: float, passes: bool
) -> None:
    """One value of 12,288 off by more than 3 grey levels, or all by more than half a level."""
    from export.parity.images import _grey_levels

    spec = InputSpec(size=(64, 64), crop_pct=1.0)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (spec.mean, spec.std))
    grey = image.transpose(2, 0, 1).astype(np.float64) + all_of_them
    grey[0, 0, 0] += one
    pixels = ((grey / 255 - mean) / std)[None]
    if passes:
        found = _grey_levels(pixels, image[None], spec)
        assert found["max"] == pytest.approx(one + all_of_them, abs=1e-3)
    else:
        with pytest.raises(ExportError, match="grey levels"):
            _grey_levels(pixels, image[None], spec)


def test_nearest_neighbours_are_refused_in_the_graph(tmp_path: Path) -> None:
    spec = InputSpec(size=(8, 8), interpolation="nearest")
    with pytest.raises(ExportError, match="use bilinear or bicubic"):
        with_preprocessing(onnx.ModelProto(), spec)


def test_drift_is_written_only_on_request_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.errors import ParityError

    model, strict = one_block(), ExportSpec(eager_ratio=0, eager_slack=0)
    with pytest.raises(ParityError):
        export.export_model(model, tmp_path / "a", ["pt2"], strict)
    assert not list(tmp_path.iterdir()), "a refused export leaves nothing behind"
    result = export.export_model(model, tmp_path / "b", ["onnx"], strict, allow_drift=True)
    assert not result.report
    assert '"drift_allowed": true' in (tmp_path / "b" / "parity.json").read_text()
    assert '"passed": false' in (tmp_path / "b" / "parity.json").read_text()


def test_more_than_two_gigabytes_are_refused_before_the_work(tmp_path: Path) -> None:
    with torch.device("meta"):
        module = nn.Linear(30_000, 20_000)
    with pytest.raises(ExportError, match=r"2\.4 GB of weights") as caught:
        export.to_onnx(module, tmp_path / "m.onnx", input=SPEC8)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("what", ["precisions", "extras"])
def test_unknown_names_are_refused(what: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float64x"):
        export.export_model(create_random("convit_nano", 0), tmp_path, **{what: ["float64x"]})


@pytest.mark.exports_anew
def test_exporting_never_changes_the_model(tmp_path: Path) -> None:
    model = one_block().train().half()
    model.blocks[0].eval()  # a mixture of modes must survive
    model.head.weight.requires_grad_(False)
    calls: list[object] = []
    handle = model.norm.register_forward_hook(lambda *_: calls.append(1))
    before = _state(model)
    export.export_model(
        model, tmp_path, ["onnx", "torchscript", "pt2"], precisions=["float16"],
        extras=["embeddings", "features", "attention"],
    )  # fmt: skip
    assert _state(model) == before
    handle.remove()
    model.float().train()(torch.randn(2, 3, 32, 32)).sum().backward()  # no inference tensors
    assert model.head.bias.grad is not None


def _state(model: nn.Module) -> Any:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        [(m.training, sorted(vars(m)), *(list(getattr(m, h)) for h in hooks))
         for m in model.modules()],
        [(n, p.dtype, p.device, p.requires_grad, p.data_ptr(), p.grad)
         for n, p in model.named_parameters()],
        {name: value.double().sum().item() for name, value in model.state_dict().items()},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "timm:convnext_atto", "timm:swin_tiny_patch4_window7_224", "timm:deit_tiny_patch16_224",
        "timm:resnet18", "timm:efficientnet_b0",
    ],
)  # fmt: skip
def test_models_of_timm_export(name: str, tmp_path: Path) -> None:
    result = export.export_model(
        create_random(name, 0), tmp_path, ["onnx", "pt2"], ExportSpec(batches=(1, 2))
    )
    assert result.report


def test_the_command_line_writes_what_it_was_asked_for(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from zoo.cli import cli

    words = [
        "export",
        "resnet_nano.digits",
        "--out",
        str(tmp_path),
        "--format",
        "onnx",
        "--img-size",
    ]
    options = ["24,32", "--precision", "int8", "--dynamic-size"]
    done = CliRunner().invoke(cli, [*words, *options])
    assert done.exit_code == 0, done.output
    assert "points of top-1 lost on digits/validation" in done.output
    assert "24x32" in done.output
    assert (tmp_path / "onnx" / "model_quantized.onnx").is_file()
    assert (tmp_path / "test_data_set_2" / "input_0.pb").is_file()
    assert export.verify_directory(tmp_path, levels=("all",)).report


def test_a_malformed_size_is_a_usage_error(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from zoo.cli import cli

    words = ["export", "convit_nano", "--out", str(tmp_path), "--img-size", "24x32"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert "as 224 or 192,256" in done.output
