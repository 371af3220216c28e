"""What a bundle holds, and that each of its readers finds what it needs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import export
import zoo
from export.cards import check_card
from export.publishing.bundle import measured_metrics
from export.publishing.transformers_config import image_processor
from zoo.catalog.weights_records import InputSpec
from zoo.data.preprocessing import preprocess
from zoo.errors import ConfigError, ZooError
from zoo.files.manifest import check_files, read_manifest

from .client import METRICS

BUNDLE = {
    "LICENSE", "README.md", "config.json", "manifest.json", "model.pt", "model.safetensors",
    "onnx/model.onnx", "onnx/model_quantized.onnx", "parity.json", "preprocessor_config.json",
    "provenance.json", "test_data_set_0/eager_float32_error.pb", "test_data_set_0/input_0.pb",
    "test_data_set_0/output_0.pb", "test_data_set_0/samples.json",
}  # fmt: skip


def read(bundle: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / name).read_text(encoding="utf-8"))
    return found


def test_a_hub_bundle_holds_what_its_readers_need(bundle: Path) -> None:
    assert {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()} == BUNDLE
    manifest = read_manifest(bundle)
    assert set(manifest.paths) == BUNDLE - {"manifest.json", "provenance.json"}
    assert (manifest.name, manifest.version) == ("convit_nano.digits", "1.0.0")
    check_files(bundle, manifest)


def test_the_hub_config_has_timms_keys_and_our_own_block_beside_them(bundle: Path) -> None:
    import dataclasses

    from timm.models import PretrainedCfg

    config = read(bundle, "config.json")
    known = {field.name for field in dataclasses.fields(PretrainedCfg)}
    assert config["pretrained_cfg"].keys() <= known  # timm refuses any other key
    ends = [config["pretrained_cfg"][key] for key in ("first_conv", "classifier")]
    assert ends == ["patch_embed.proj", "head"]
    own = config["convattn"]
    assert (own["name"], own["version"], own["family"], own["labels"]) == (
        "convit_nano.digits", "1.0.0", "convit", "digits",
    )  # fmt: skip
    manifest = read_manifest(bundle)
    assert own["digests"] == {path: manifest.digest(path) for path in own["digests"]}
    assert {"model.safetensors", "onnx/model.onnx"} <= own["digests"].keys()


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(size=(32, 32), crop_pct=1.0, mean=(0.5,) * 3, std=(0.5,) * 3),
        InputSpec(),
        InputSpec(size=(64, 64), crop_pct=0.9, interpolation="bilinear"),
    ],
)
def test_the_hub_image_processor_takes_the_steps_that_we_take(spec: InputSpec) -> None:
    """Read as transformers and transformers.js read the file, with Pillow and numpy alone."""
    steps = json.loads(json.dumps(image_processor(spec)))
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (61, 83, 3), dtype=np.uint8))
    short = steps["size"]["shortest_edge"]
    scale = short / min(image.size)
    new = tuple(math.floor(side * scale + 1e-9) for side in image.size)
    resized = image.resize(new, steps["resample"])
    height, width = steps["crop_size"]["height"], steps["crop_size"]["width"]
    left, top = round((new[0] - width) / 2), round((new[1] - height) / 2)
    values = np.asarray(resized.crop((left, top, left + width, top + height)), np.float64)
    values = values * steps["rescale_factor"]
    values = (values - np.array(steps["image_mean"])) / np.array(steps["image_std"])
    expected = preprocess(image, spec).transpose(1, 2, 0)
    assert np.abs(values - expected).max() < 1e-5


def test_the_hub_card_is_valid_and_says_licence_source_and_citation(bundle: Path) -> None:
    from huggingface_hub import ModelCard

    text = (bundle / "README.md").read_text(encoding="utf-8")
    check_card(text)
    card = ModelCard(text)
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "image-classification"
    [result] = card.data.eval_results or ()
    assert (result.metric_name, result.metric_value) == ("Accuracy", METRICS[0].value / 100)
    assert METRICS[0].source in text
    assert "@inproceedings{dascoli2021convit" in text
    licence = (bundle / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "CC-BY-NC" in licence  # the conflict upstream


def test_a_hub_bundle_is_a_model_reference_for_every_verb(bundle: Path) -> None:
    model = zoo.create_model(str(bundle), pretrained=True)
    assert model.pretrained_cfg.sha256 == read(bundle, "parity.json")["weights_sha256"]
    assert export.verify_directory(bundle).report


def test_hub_bundling_leaves_the_model_and_a_refused_directory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    cfg = model.pretrained_cfg
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out, options, says in (
        ("full", {}, "choose another --out"),
        ("file", {}, "is a file"),
        ("new", {"version": "1.0"}, "X.Y.Z"),
        ("new", {"version": "2.0.0"}, "never change"),
    ):
        with pytest.raises(ZooError, match=says):
            export.write_bundle(model, tmp_path / out, **options)

    def fail(*_: object, **__: object) -> None:
        raise ZooError("stopped half-way")

    monkeypatch.setattr("export.publishing.bundle.render_card", fail)
    monkeypatch.setattr("export.publishing.bundle.export_model", _fake_export)
    with pytest.raises(ZooError, match="stopped"):
        export.write_bundle(model, tmp_path / "new")
    assert model.pretrained_cfg is cfg
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full"]
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_other_weights_are_not_bundled_under_a_published_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.publishing.bundle.export_model", _fake_export)
    model: Any = zoo.create_model("convit_nano", pretrained=True)
    version = model.pretrained_cfg.version
    model.norm.bias.data.add_(0.1)
    out = tmp_path / "new"
    says = f"convit_nano.digits@{version} is published with other weights.*--version X.Y.Z"
    with pytest.raises(ConfigError, match=says):
        export.write_bundle(model, out, version=version)
    assert not out.exists()


def _fake_export(model: Any, folder: Path, *_: object, **__: object) -> Any:
    from types import SimpleNamespace

    (folder / "config.json").write_text('{"convattn": {}}')
    (folder / "model.safetensors").write_bytes(b"x")
    manifest = SimpleNamespace(digest=lambda _: "0" * 64, files=())
    return SimpleNamespace(manifest=manifest, report=None)


def test_hub_metrics_come_from_what_evaluate_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "convit_nano.digits"
    folder.mkdir()
    share = {"correct": 355, "total": 360, "acc1_percent": 98.6, "interval95_percent": [96.8, 99.4]}
    results = {"digits/test": share}
    command = "convattn evaluate convit_nano --data digits"
    (folder / "accuracy.json").write_text(json.dumps({"results": results, "command": command}))
    [metric] = measured_metrics(tmp_path, "convit_nano.digits")
    assert (metric.value, metric.dataset) == (98.6, "digits/test")
    assert command in metric.source
    (folder / "accuracy.json").write_text("[]")
    with pytest.raises(ZooError, match="convattn evaluate"):
        measured_metrics(tmp_path, "convit_nano.digits")
    with pytest.raises(ZooError, match="cannot read"):
        measured_metrics(tmp_path, "absent")
