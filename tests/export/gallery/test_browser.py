"""The gallery in Chromium: one visit through pages of a bundled model and of a user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import zoo
from benchmarks.browser import Browser, bench, export_all, measure, served
from export import export_model
from export.parity import calibration
from export.parity.calibration import dataset_of
from export.publishing.gallery import write_gallery
from zoo.catalog.tables import read_labels
from zoo.data.dataset import ImageDataset

pytestmark = pytest.mark.slow
FOREIGN = ("<b>Straße</b> & Co", "猫", "not a digit", "四")


def own_export(folder: Path) -> Path:
    """A small model with foreign class names, as a user fine-tuned it, exported plainly."""
    model = zoo.create_model(
        "convit_nano", num_classes=4, img_size=32, depth=2, local_up_to_layer=1
    ).eval()
    cfg = model.pretrained_cfg
    model.pretrained_cfg = zoo.PretrainedCfg(**{**vars(cfg), "labels": FOREIGN})
    export_model(model, folder, ("onnx",))
    return folder


@pytest.fixture(scope="session")
def visited(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a visitor of two models met."""
    root = tmp_path_factory.mktemp("served")
    bundled = root / "exported"
    model = zoo.create_model("convit_nano", pretrained=True).eval()
    export_model(model, bundled, ("onnx",), precisions=("float16", "int8"), extras=("attention",))
    references = [str(bundled), str(own_export(root / "own"))]
    write_gallery(references, root / "any" / "path")
    models = [{"slug": "convit_nano.digits", "samples": 10}, {"slug": "convit_nano", "samples": 0}]
    wanted = {"models": models, "webgpu": ["convit_nano.digits"]}
    with served(root) as base, Browser() as browser:
        return dict(browser.ask("walk", script="walk.mjs", arguments=[f"{base}any/path/", wanted]))


@pytest.fixture(params=["convit_nano.digits", "convit_nano"])
def model(request: pytest.FixtureRequest, visited: dict[str, Any]) -> dict[str, Any]:
    return dict(visited["models"][request.param])


@pytest.fixture
def bundled(visited: dict[str, Any]) -> dict[str, Any]:
    return dict(visited["models"]["convit_nano.digits"])


def test_parity_is_proven_in_the_browser(model: dict[str, Any]) -> None:
    assert model["state"] == "passed", model["verdict"]
    assert "10 images" in model["verdict"]


def test_nothing_is_logged_as_an_error_or_asked_from_elsewhere(
    model: dict[str, Any], visited: dict[str, Any]
) -> None:
    for part in (model, visited["index"]):
        assert not part["errors"]
        assert not part["foreign"]


def test_accessibility_has_no_serious_fault(model: dict[str, Any], visited: dict[str, Any]) -> None:
    assert not [*model["faults"], *model["phone"]["faults"], *visited["index"]["faults"]]


def test_the_layout_neither_shifts_nor_overflows(
    model: dict[str, Any], visited: dict[str, Any]
) -> None:
    assert max(model["shift"], model["phone"]["shift"]) < 0.005
    assert model["phone"]["wide"] == visited["index"]["wide390"] == 390


def test_first_load_stays_below_5_megabytes(model: dict[str, Any]) -> None:
    assert 3e6 < model["weight"] < 5e6


def test_samples_get_their_labels_and_the_answers_of_python(bundled: dict[str, Any]) -> None:
    assert bundled["labels"] == [str(digit) for digit in range(10)]
    assert bundled["same"] == ["passed"] * 10


def test_heads_are_drawn_and_follow_mouse_and_keyboard(model: dict[str, Any]) -> None:
    found = model["attention"]
    assert all(colours > 5 for layer in found["heads"] for colours in layer)
    assert len(set(found["places"])) == 3
    assert found["gates"] == 4


def test_files_that_are_no_images_get_a_message(model: dict[str, Any]) -> None:
    told = model["problems"]
    assert "empty" in told["empty"]
    assert "damaged" in told["damaged"]
    assert "damaged" in told["text"]
    assert "60000 × 60000" in told["huge"]
    assert "Answered in" in told["fine"]


def test_every_backend_is_judged_and_webgpu_float16_needs_its_feature(
    bundled: dict[str, Any],
) -> None:
    runs = {(row["backend"], row["precision"]): row for row in bundled["runs"]}
    assert runs["webgpu", "float32"]["state"] == "passed"
    for precision in ("float32", "float16", "int8"):
        assert runs["wasm", precision]["state"] == "passed"
    half = runs["webgpu", "float16"]
    assert half["state"] == "passed" or "shader-f16" in half["text"]


def test_the_theme_can_be_changed(model: dict[str, Any]) -> None:
    assert model["phone"]["theme"] == "light"


def test_the_index_shows_every_model_with_its_picture(visited: dict[str, Any]) -> None:
    assert visited["index"]["cards"] == 2
    assert visited["index"]["pictures"]


ON_WEBGPU = ("convit_nano.digits", "resnet_nano.digits")  # as `make browser` measures them


def _one_of_each_architecture() -> list[str]:
    """Weights that come with the package: those of `ON_WEBGPU`, of the others the last by name."""
    weights = [
        name
        for name in zoo.list_models(pretrained=True, with_tags=True)
        if (record := zoo.get_record(name).selected) is not None and record.bundled
    ]
    last = {name.partition(".")[0]: name for name in weights}
    return sorted((last | {name.partition(".")[0]: name for name in ON_WEBGPU}).values())


BUNDLED = _one_of_each_architecture()


def _few(cfg: zoo.PretrainedCfg, part: str) -> ImageDataset | None:
    """Fewer images to judge int8 by: what is tried here is the browser."""
    images = dataset_of(cfg, part)
    return images.subset(range(min(200, len(images)))) if images is not None else None


@pytest.fixture(scope="session")
def exports(browser_needed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """These weights, exported once for both tests below."""
    root = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "dataset_of", _few)
        for name in BUNDLED:
            export_all(zoo.create_model(name, pretrained=True).eval(), root / name)
    return root


def test_every_file_of_every_architecture_passes_on_wasm_and_two_on_webgpu(
    exports: Path, web_runtime: None
) -> None:
    with bench(exports) as (browser, about):
        for name in BUNDLED:
            model = zoo.create_model(name, pretrained=True).eval()
            for backend in ("wasm", "webgpu") if name in ON_WEBGPU else ("wasm",):
                report = measure(browser, about, exports / name, model, backend)
                assert report, f"{name} on {backend}: {report.failures}"


def test_every_architecture_has_a_page_that_proves_it(
    exports: Path, web_runtime: None, tmp_path: Path
) -> None:
    by_name, *others = BUNDLED  # one is exported by the gallery itself
    write_gallery([by_name, *(str(exports / name) for name in others)], tmp_path / "gallery")
    models = [{"slug": name, "samples": 10, "brief": True} for name in BUNDLED]
    with served(tmp_path) as base, Browser() as browser:
        arguments = [f"{base}gallery/", {"models": models}]
        found = browser.ask("walk", script="walk.mjs", arguments=arguments)["models"]
    for name in BUNDLED:
        labels = read_labels(zoo.get_record(name).selected.labels)
        met = found[name]
        assert (met["state"], met["errors"], met["foreign"]) == ("passed", [], []), name
        assert set(met["labels"]) <= set(labels)
        assert set(met["same"]) == {"passed"}, name
        assert met["weight"] < 5.1e6, name
