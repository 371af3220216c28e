"""Several extras in one file: every output by name, measured, and right in ONNX Runtime alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

import export
import zoo
from export.formats.extras import extra_file, extras_in
from export.formats.outputs import form_with
from export.parity.images import compare_images
from export.parity.report import read_report
from export.runtime.opening import open_onnx
from export.spec import ExportSpec
from zoo.cli import cli
from zoo.data.preprocessing import preprocess
from zoo.errors import ConfigError, ExportError

ALL = "attention+pixel_values+preprocessing+features"
FILE = "onnx/model_features_attention_preprocessing_pixel_values.onnx"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(0)
    model = zoo.create_model(
        "convit_nano", num_classes=3, img_size=16, depth=2, local_up_to_layer=1
    )
    out = tmp_path_factory.mktemp("extras") / "out"
    export.export_model(model.eval(), out, ("onnx",), extras=[ALL])
    return model, out


def run(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def test_one_file_returns_what_was_asked_of_an_image_of_any_size(
    exported: tuple[torch.nn.Module, Path],
) -> None:
    model, out = exported
    image = np.random.default_rng(0).integers(0, 256, (2, 37, 91, 3), dtype=np.uint8)
    found = run(out / FILE, image)
    spec = model.pretrained_cfg.input
    wanted = np.stack([preprocess(one, spec) for one in image])
    assert 255 * 0.5 * np.abs(found["pixel_values"] - wanted).max() < 3  # grey levels
    with torch.inference_mode():
        pixels = torch.from_numpy(found["pixel_values"])
        _, maps = model.forward_intermediates(pixels)
        logits = model(pixels).numpy()
    assert np.allclose(found["logits"], logits, atol=1e-5)
    [features] = [name for name in found if name.startswith("features.")]
    assert np.allclose(found[features], maps[-1].numpy(), atol=1e-4)
    attentions = [name for name in found if name.startswith("attentions.")]
    assert len(attentions) == 2
    for name in attentions:
        assert np.abs(found[name].sum(-1) - 1).max() < 1e-5
    assert next(iter(found)) == "logits"
    assert list(found)[-1] == "pixel_values"


def test_every_output_is_measured_when_written_and_when_verified(
    exported: tuple[torch.nn.Module, Path],
) -> None:
    out = exported[1]
    for report in (read_report(out / "parity.json"), export.verify_directory(out).report):
        rows = [row for row in report.rows if row.file == FILE]
        outputs = {row.output for row in rows}
        assert len(outputs) == 5  # logits, one map, two layers of attention, pixels
        assert "pixel_values" in outputs
        assert all(row.passed for row in rows)
        assert "not_run" not in report.attestation.get(FILE, {})


def test_pixels_that_are_a_grey_level_off_fail(
    exported: tuple[torch.nn.Module, Path],
) -> None:
    """The measurement of `pixel_values` has teeth, whatever the logits make of them."""
    model, out = exported
    session = open_onnx(out / FILE)

    def off(batch: np.ndarray) -> dict[str, np.ndarray]:
        found = session.run_named(batch)
        return {**found, "pixel_values": found["pixel_values"] + np.float32(1 / 255)}

    spec, form = model.pretrained_cfg.input, form_with(model, extras_in(FILE))
    rows, _ = compare_images(
        replace(session, run_named=off), FILE, form, spec, ExportSpec(batches=(1,))
    )
    pixels = [row for row in rows if row.output == "pixel_values"]
    assert pixels
    assert not any(row.passed for row in pixels)


@pytest.mark.slow
def test_embeddings_and_images_share_a_file_of_a_foreign_model(tmp_path: Path) -> None:
    model = zoo.create_model("timm:mobilenetv3_small_050", num_classes=4).eval()
    extra = "embeddings+preprocessing"
    export.export_model(model, tmp_path / "out", ("onnx",), extras=[extra, "preprocessing"])
    image = np.full((1, 300, 17, 3), 200, np.uint8)
    assert run(tmp_path / "out" / extra_file(extra), image)["pooler_output"].shape == (1, 1024)
    assert run(tmp_path / "out" / extra_file("preprocessing"), image)["logits"].shape == (1, 4)
    with pytest.raises(ExportError, match="attention"):
        export.export_model(model, tmp_path / "no", ("onnx",), extras=["attention+preprocessing"])
    assert not (tmp_path / "no").exists()


def test_names_are_checked_and_their_order_does_not_matter() -> None:
    assert extra_file(ALL) == FILE
    assert extras_in(FILE) == ("features", "attention", "preprocessing", "pixel_values")
    assert extras_in("onnx/model.onnx") == ()
    for wrong in ("", "logits", "pixel_values", "attention+pixel_values", "attention,features"):
        with pytest.raises(ConfigError):
            extra_file(wrong)


@pytest.mark.parametrize(
    "options", [["--one-file"], ["--one-file", "--features"], ["--pixel-values"]]
)
def test_the_command_refuses_what_means_nothing(options: list[str], tmp_path: Path) -> None:
    arguments = ["export", "convit_nano", "--out", str(tmp_path / "out"), *options]
    assert CliRunner().invoke(cli, arguments).exit_code == 2
    assert not (tmp_path / "out").exists()
