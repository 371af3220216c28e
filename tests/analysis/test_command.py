"""`convattn analyze`: files written, JSON on stdout, refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from zoo.cli import cli
from zoo.cli.analyze import _VERBS
from zoo.errors import ConfigError, DatasetError, ImageError, ZooError
from zoo.files.manifest import make_manifest, read_manifest

MODELS = ("convit_nano", "conv_attention_vit_nano")
FEW = ("--images", "4", "--fast", "--json")


def _run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["analyze", *map(str, args)], catch_exceptions=False)


def _check(out: Path, verb: str, result: Result) -> dict:
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed == json.loads((out / f"{verb}.json").read_text())
    assert (out / f"{verb}.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (out / f"{verb}.svg").read_bytes()
    with (out / f"{verb}.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(printed["rows"]) > 0
    return printed


@pytest.mark.parametrize(
    "verb", ["fourier", "variance", "specificity", "nonlocality", "similarity", "attention"]
)
def test_two_models_in_one_figure(verb: str, tmp_path: Path) -> None:
    few = FEW if verb != "attention" else ("--image", "4", "--json")
    result = _run(verb, *MODELS, "--data", "digits", "--out", tmp_path, *few)
    found = _check(tmp_path, verb, result)
    assert [entry["model"] for entry in found["results"]] == [f"{m}.digits" for m in MODELS]
    assert found["seed"] == 0
    assert found["results"][0]["definition"]


@pytest.mark.parametrize("verb", ["lesion", "noise", "filters"])
def test_one_model(verb: str, tmp_path: Path) -> None:
    result = _run(verb, MODELS[0], "--data", "digits", "--out", tmp_path, *FEW)
    _check(tmp_path, verb, result)


@pytest.mark.parametrize("verb", ["lesion", "landscape", "hessian", "noise", "robustness"])
def test_images_of_other_classes_are_refused(verb: str, tmp_path: Path) -> None:
    for name in "0123456789"[:9] + "x":
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            image = Image.new("RGB", (9, 9), (25 * ord(name) % 256, 90 * number, 7))
            image.save(tmp_path / "data" / name / f"{number}.png")
    with pytest.raises(DatasetError, match="does not know x"):
        _run(verb, MODELS[0], "--data", tmp_path / "data", "--out", tmp_path / "out", *FEW)


def test_an_unreadable_image_stops_an_analysis_or_is_left_out(tmp_path: Path) -> None:
    for name in "0123456789":
        (tmp_path / "data" / "test" / name).mkdir(parents=True)
        Image.new("L", (9, 9), 20 * int(name)).save(tmp_path / "data" / "test" / name / "a.png")
    (tmp_path / "data" / "test" / "3" / "b.png").write_bytes(b"not an image")
    words = ("lesion", MODELS[0], "--data", tmp_path / "data", "--out", tmp_path / "out", "--json")
    with pytest.raises(ImageError, match=r"b\.png"):
        _run(*words)
    result = _run(*words, "--on-unreadable", "skip")
    assert "3/b.png" in result.stderr
    found = json.loads(result.stdout)
    assert (found["images"], found["skipped"]) == (10, ["test/3/b.png"])


def test_gates_of_a_run_with_diagnostics(tmp_path: Path, tiny_run: Path) -> None:
    lines = [
        {
            "epoch": epoch,
            "layers": [{"name": "blocks.0.attn", "gates": [0.7] * 4, "nonlocality": [1.0] * 4}],
        }
        for epoch in (1, 2)
    ]
    log = "".join(json.dumps(line) + "\n" for line in lines)
    (tiny_run / "diagnostics.jsonl").write_text(log)
    old = read_manifest(tiny_run)
    listed = make_manifest(
        tiny_run, [*old.paths, "diagnostics.jsonl"], old.name, old.version, old.architecture_version
    )
    (tiny_run / "manifest.json").write_text(listed.to_json())
    args = ("gates", MODELS[0], tiny_run, "--data", "digits", "--out", tmp_path, "--json")
    found = _check(tmp_path, "gates", _run(*args))
    assert [len(entry["epochs"]) for entry in found["results"]] == [0, 2]
    names = [entry["model"] for entry in found["results"]]
    assert len(set(names)) == 2


def test_a_landscape_says_first_how_long_it_takes(tmp_path: Path) -> None:
    args = ("landscape", MODELS[1], "--data", "digits", "--images", 2, "--grid", 3)
    result = _run(*args, "--out", tmp_path, "--clean", "--json")
    found = _check(tmp_path, "landscape", result)
    assert "9 points of 2 images, about" in result.stderr
    assert len(found["rows"]) == 9
    assert "without augmentation" in found["results"][0]["definition"]


def test_a_hessian_on_augmented_batches(tmp_path: Path) -> None:
    args = ("hessian", MODELS[1], "--data", "digits", "--batch-size", 4, "--batches", 1)
    result = _run(*args, "--top", 1, "--max-iterations", 2, "--out", tmp_path, "--fast", "--json")
    found = _check(tmp_path, "hessian", result)
    assert "augmented as in training" in found["results"][0]["definition"]


@pytest.mark.slow
def test_robustness_has_75_rows(tmp_path: Path) -> None:
    result = _run("robustness", MODELS[1], "--data", "digits", "--out", tmp_path, *FEW)
    found = _check(tmp_path, "robustness", result)
    assert len(found["rows"]) == 75
    assert found["results"][0]["mce_percent"] is None


@pytest.mark.slow
def test_the_build_up_trains_every_plan_once(tmp_path: Path) -> None:
    args = ("buildup", "alternet_nano", "--data", "digits", "--plan", "C CA", "--epochs", 1)
    with pytest.raises(ConfigError, match="stages, widths and heads"):
        _run(*args, "--out", tmp_path, "--json")
    args = ("buildup", "alternet_nano", "--data", "digits", "--plan", "C C CA", "--epochs", 1)
    args = (*args, "--img-size", 16)
    found = _check(tmp_path, "buildup", _run(*args, "--images", 8, "--out", tmp_path, "--json"))
    assert [row["plan"] for row in found["rows"]] == ["C C CC", "C C CA"]
    again = _run(*args, "--images", 8, "--out", tmp_path, "--json")
    rows = json.loads(again.stdout)["rows"]
    assert [row["seconds"] for row in rows] == [row["seconds"] for row in found["rows"]]
    with pytest.raises(ConfigError, match=r"holds another run: config\.window_size was None, is 2"):
        _run(*args, "--set", "window_size=2", "--images", 8, "--out", tmp_path)


@pytest.mark.slow
def test_noise_takes_exported_files(tmp_path: Path, exported: Path) -> None:
    args = ("noise", MODELS[0], exported / "onnx" / "model.onnx", "--data", "digits")
    found = _check(tmp_path, "noise", _run(*args, "--out", tmp_path, *FEW))
    one, other = (entry["noise"] for entry in found["results"])
    assert [b["accuracy"]["correct"] for b in one] == [b["accuracy"]["correct"] for b in other]


def test_random_weights_are_labelled_so(tmp_path: Path) -> None:
    args = ("variance", "alternet_nano", "--data", "digits", "--init", "3", "--out", tmp_path)
    found = _check(tmp_path, "variance", _run(*args, *FEW))
    assert found["results"][0]["model"] == "alternet_nano.random"


def test_an_exported_file_is_refused_where_it_has_no_inside(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'model\.onnx' is an exported file.*noise take"):
        _run("fourier", "model.onnx", "--data", "digits", "--out", tmp_path)


def test_a_model_without_attention_is_named(tmp_path: Path) -> None:
    args = ("nonlocality", "resnet_18", "--init", 0, "--data", "digits", "--images", 2)
    with pytest.raises(ZooError, match="ResNet has no attention layers"):
        _run(*args, "--out", tmp_path)


def test_every_analysis_has_help_and_a_page() -> None:
    pages = Path(__file__).resolve().parents[2] / "docs" / "analyses"
    for verb in _VERBS:
        result = _run(verb, "--help")
        assert result.exit_code == 0
        assert "--json" in result.stdout
        assert f"convattn analyze {verb}" in (pages / f"{verb}.md").read_text(), verb


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (("landscape", "--grid", "3"), 9),
        (("hessian", "--batches", "1", "--top", "2", "--max-iterations", "2"), 2),
        (("noise", "--bands", "3"), 9),
    ],
)
def test_what_is_asked_for_wins_over_fast(
    words: tuple[str, ...], rows: int, tmp_path: Path
) -> None:
    verb, *options = words
    found = _run(verb, "resnet_nano", "--data", "digits", *FEW, *options, "--out", tmp_path)
    assert len(json.loads(found.stdout)["rows"]) == rows
