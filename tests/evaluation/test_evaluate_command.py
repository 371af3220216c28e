"""`convattn evaluate` on models, runs and exported files, with every kind of data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.writers import write_cifar10_python, write_cifar_c
from zoo.catalog.tables import read_labels
from zoo.cli import main
from zoo.cli._evaluation_text import compact_json
from zoo.data.corruptions import CORRUPTIONS
from zoo.data.opening import open_dataset

SCAN = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))[0]
LIST = "a list of files"


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(args))
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits of the test part as a folder of PNG files."""
    root = tmp_path_factory.mktemp("scans")
    for index, (image, target) in enumerate(open_dataset("digits", "test")[:60]):
        folder = root / "test" / str(target)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def cifar_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with random weights and CIFAR-10's classes."""
    from dataclasses import replace

    from zoo.factory.config_json import build_config
    from zoo.factory.create import create_random
    from zoo.files.local import sha256_bytes, write_bytes, write_text
    from zoo.weights.safetensors_file import weights_bytes

    out = tmp_path_factory.mktemp("cifar") / "run"
    model = create_random("convit_nano", 0)
    data = weights_bytes(model)
    labels = read_labels("cifar10")
    model.pretrained_cfg = replace(
        model.pretrained_cfg, tag="cifar10", labels=labels, sha256=sha256_bytes(data)
    )
    write_bytes(out / "model.safetensors", data)
    write_text(out / "config.json", json.dumps(build_config(model)))
    return out


def _results(text: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(text)
    return content


def test_eager_onnx_and_torchscript_agree(
    exported: Path, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for model in ("convit_nano", exported, exported / "onnx" / "model.onnx", exported / "model.pt"):
        assert run("evaluate", str(model), "--data", str(scans), "--json") == 0
        found.append(_results(capsys.readouterr().out))
    first = found[0]["results"][f"{scans.name}/test"]
    assert first["total"] == 60
    assert first["acc1_percent"] > 95
    for other in found[1:]:
        result = other["results"][f"{scans.name}/test"]
        assert result["correct"] == first["correct"]
        assert result["data_sha256"] == first["data_sha256"]
        assert result["metrics"]["nll"]["value"] == pytest.approx(
            first["metrics"]["nll"]["value"], abs=1e-5
        )
        assert other["weights_sha256"] == found[0]["weights_sha256"] != ""
    assert found[2]["file"] == "model.onnx"
    assert len(found[2]["file_sha256"]) == 64


def test_scans_in_files_and_in_memory_give_the_same_numbers(
    scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders sort the images anew; the numbers must not care."""
    from functools import partial

    import zoo
    from zoo.evaluation.evaluate import evaluate

    assert run("evaluate", "convit_nano", "--data", str(scans), "--json") == 0
    found = _results(capsys.readouterr().out)["results"][f"{scans.name}/test"]
    predictor = zoo.Predictor.from_model(zoo.create_model("convit_nano", pretrained=True))
    known = evaluate(partial(predictor.logits), open_dataset("digits", "test")[:60], resamples=0)
    assert found["metrics"]["nll"]["value"] == pytest.approx(known.values["nll"], abs=1e-6)


def test_the_measured_file_keeps_its_keys_and_gains_the_metrics(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("evaluate", "convit_nano", "--data", str(scans), "--plots", "--out", str(tmp_path))
    assert run(*args) == 0
    shown = capsys.readouterr().out
    assert f"convit_nano.digits on {scans.name}/test: " in shown
    assert "weakest classes: " in shown
    folder = tmp_path / "convit_nano.digits"
    content = _results((folder / "accuracy.json").read_text())
    result = content["results"][f"{scans.name}/test"]
    assert {"correct", "total", "acc1_percent", "interval95_percent", "data_sha256"} <= set(result)
    assert {"weights_sha256", "command", "versions", "machine", "seed"} <= set(content)
    for kind in ("reliability", "confusion"):
        with Image.open(folder / f"{kind}-{scans.name}-test.png") as picture:
            values = np.asarray(picture.convert("L"))
        assert min(values.shape) > 200
        assert values.std() > 10  # something is drawn


def test_the_original_definition_is_named_in_the_result(
    scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("evaluate", "convit_nano", "--data", str(scans), "--json")
    assert run(*args, "--metric-definition", "how-do-vits-work") == 0
    result = _results(capsys.readouterr().out)["results"][f"{scans.name}/test"]
    assert result["definition"] == "how-do-vits-work"
    assert len(result["reliability"]["counts"]) == 10


def test_cifar_and_its_corruptions(
    cifar_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar10_python(tmp_path)
    assert run("evaluate", str(cifar_run), "--data", f"cifar10:{tmp_path}", "--json") == 0
    assert _results(capsys.readouterr().out)["results"]["cifar10/test"]["total"] == 20
    write_cifar_c(tmp_path / "c", CORRUPTIONS, count=4)
    args = ("evaluate", str(cifar_run), "--data", f"cifar10-c:{tmp_path / 'c'}")
    assert run(*args, "--out", str(tmp_path / "out")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "mean of 75 sets" in lines[0]
    assert [line.split()[0] for line in lines[2:17]] == list(CORRUPTIONS)
    content = json.loads(
        (tmp_path / "out" / "convit_nano.cifar10" / "corruptions.json").read_text()
    )
    assert len(content["rows"]) == content["sets"] == 75
    mean = np.mean([row["acc1_percent"] for row in content["rows"]])
    assert content["mean_acc1_percent"] == pytest.approx(mean, abs=1e-3)
    assert run(*args, "--corruption", "fog", "--json") == 0
    assert _results(capsys.readouterr().out)["sets"] == 5


def test_other_classes_exit_with_3(
    cifar_run: Path, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", str(cifar_run), "--data", str(scans), "--json") == 3
    assert _results(capsys.readouterr().out)["error"]["code"] == "class_names"


def test_unreadable_images_are_failures_or_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for digit in range(10):
        (tmp_path / "test" / str(digit)).mkdir(parents=True)
        image = open_dataset("digits", "test")[digit][0]
        Image.fromarray(image).save(tmp_path / "test" / str(digit) / "a.png")
    (tmp_path / "test" / "3" / "b.png").write_bytes(b"no image")
    args = ("evaluate", "convit_nano", "--data", str(tmp_path))
    assert run(*args) == 3
    assert "b.png" in capsys.readouterr().err
    assert run(*args, "--on-unreadable", "skip") == 0
    assert "skipped 1 images that cannot be read: test/3/b.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--data", "digits", "--plots"), "--plots needs --out"),
        (("--data", "digits", "--corruption", "fog"), "--corruption is for"),
        (("--data", "cifar10-c:x", "--part", "test"), "no parts and no plots"),
        (("--data", "cifar10-c:x", "--column", "image"), "leave out --column"),
        (("--data", "digits", "--seed", "5"), "--seed is of MC dropout's masks"),
        (("--data", "digits", "--seed", "0"), "add --mc-samples, or leave it out"),
        (("--data", "digits", "--label-column", "foo"), "--label-column: columns are of parquet"),
        (("--data", LIST, "--label-column", "label"), "--label-column: columns are of parquet"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(
    args: tuple[str, ...], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scans.txt").write_text(f"{SCAN}\t0\n")
    given = [str(tmp_path / "scans.txt") if word == LIST else word for word in args]
    assert run("evaluate", "convit_nano", *given) == 2
    assert text in capsys.readouterr().err


def test_exported_files_have_no_dropout_to_sample(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(exported / "onnx" / "model.onnx")
    assert run("evaluate", model, "--data", "digits", "--mc-samples", "2") == 3
    assert "MC dropout off" in capsys.readouterr().err


def test_sampling_runs_on_no_provider(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("evaluate", "resnet_nano", "--data", "digits", "--mc-samples", "2")
    assert run(*words, "--provider", "openvino") == 3
    assert run(*words, "--like", "convit_nano") == 3
    assert capsys.readouterr().err.count("leave --provider and --like out") == 2


def test_lists_of_numbers_stand_on_one_line() -> None:
    value = {"a": [1, 2.5, -3e-7], "b": [[1, 2], [3, 4]], "c": ["x", "y"], "d": []}
    text = compact_json(value)
    assert json.loads(text) == value
    assert '"a": [1, 2.5, -3e-07]' in text
    assert "    [1, 2],\n" in text
