"""Options and keywords that would have no effect are refused, in words that name them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import export
import zoo
from export.formats.metadata import describe_for
from export.parity.per_node import measure_nodes
from export.parity.stored import read_test_data
from export.runtime import opening
from export.runtime.opening import open_onnx, open_predictor, open_session
from export.runtime.providers import SessionSettings
from export.spec import ExportSpec
from export.speed import side_by_side
from zoo.cli import _batch, main, predict
from zoo.errors import ConfigError

SCAN = str(sorted((Path(__file__).parents[2] / "examples").glob("*.png"))[0])


def status(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


FILE = "{exported}/onnx/model.onnx"
NEW = ("--out", "{new}")
ROWS = ("--data", "{exported}", "--out", "{new}.npz")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("verify", "{exported}", "--provider", "openvino", "--level", "basic"), 3, "levels are"),
        (("verify", "{exported}/model.pt", "--level", "basic"), 3, "here is model.pt"),
        (("verify", "{exported}", "--tf32"), 3, "TF32 is of CUDA; cpu has none"),
        (("verify", "{exported}/model.pt", "--per-node"), 3, "model.pt is another one"),
        (("predict", FILE, SCAN, "--precision", "int8"), 3, "'model.onnx' is none"),
        (("predict", FILE, SCAN, "--precision", "float32"), 3, "'model.onnx' is none"),
        (("predict", "{exported}/model.pt", SCAN, "--threads", "2"), 3, "OMP_NUM_THREADS"),
        (("predict", FILE, SCAN, "--gpus-per-actor", "0"), 2, "--gpus-per-actor would have no"),
        (("predict", FILE, SCAN, "--untrusted", "--set", "depth=3"), 3, "file is finished"),
        (("predict", FILE, SCAN, "--untrusted", "--weights", "no"), 3, "file is finished"),
        (
            ("bench", "model", "convit_nano", FILE, "--set", "depth=3"),
            2,
            "--set would have no effect",
        ),
        (
            ("bench", "model", FILE, "--no-compile"),
            2,
            "--compile/--no-compile would have no effect",
        ),
        (("embed", "convit_nano", *ROWS, "--workers", "7"), 2, "--workers: for rows"),
        (("embed", "convit_nano", *ROWS, "--resume"), 2, "--resume: for rows"),
        (("embed", "convit_nano", *ROWS, "--set", "num_classes=5"), 2, "leave it out"),
        (("export", "convit_nano", *NEW, "--format", "torchscript", "--opset", "18"), 2, "--opset"),
        (("export", "convit_nano", *NEW, "--on-unreadable", "skip"), 2, "images of --data"),
        (
            ("export", "convit_nano", *NEW, "--set", "img_size=64", "--img-size", "32"),
            2,
            "--set img_size=64 and --img-size (32, 32) are two sizes",
        ),
        (
            ("export", "convit_nano", *NEW, "--format", "torchscript", "--precision", "float32"),
            3,
            "add the format onnx",
        ),
        (
            ("export", "convit_nano", *NEW, "--precision", "int8", "--calibration", "{images}"),
            3,
            "calibration is for int8-static",
        ),
    ],
)
def test_options_without_effect_are_refused(
    words: tuple[str, ...],
    code: int,
    text: str,
    exported: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "images").mkdir()
    shutil.copy(SCAN, tmp_path / "images")
    places = {"exported": exported, "new": tmp_path / "new", "images": tmp_path / "images"}
    found = status(*(word.format(**places) for word in words))
    error = capfd.readouterr().err
    assert (found, text in error) == (code, True), error
    assert not list(tmp_path.glob("new*"))


def test_what_is_about_exported_files_is_refused_where_there_are_none(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--picture", tmp_path / "p.png", "--out", tmp_path / "vo", "--per-node")
    assert status("verify", tiny_run, *asked) == 3
    error = capsys.readouterr().err
    assert "nothing is exported in" in error
    assert "--per-node, --picture, --out would be about" in error
    assert status("verify", tiny_run) == 0


@pytest.mark.parametrize("levels", [(), ("fast",), ("all", "most"), "basic"])
def test_unknown_levels_and_none_are_refused(exported: Path, levels: Any) -> None:
    with pytest.raises(ConfigError, match="levels are one or more of disabled, basic, extended"):
        export.verify_directory(exported, levels=levels)


def test_per_node_tells_of_the_file_that_is_named(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--per-node", "--level", "all", "--json")
    assert status("verify", exported / "onnx" / "model.onnx", *words) == 0
    found = json.loads(capsys.readouterr().out)["per_node"]
    batch = read_test_data(exported).inputs.batch[::3]
    assert found["nodes"] == len(measure_nodes(exported / "onnx" / "model.onnx", batch).nodes)
    (tmp_path / "onnx").mkdir()
    for name in ("model_quantized.onnx", "model_fp16.onnx"):
        path = Path(shutil.copy(exported / "onnx" / "model.onnx", tmp_path / "onnx" / name))
        assert status("verify", path, *words) == 3
        assert f"onnx/{name} is another one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("precision", "text"),
    [("nonsense", "one of float32, float16, int8; got 'nonsense'"), ("int8", "'model.onnx' is no")],
)
def test_one_file_has_no_choice_of_precisions(exported: Path, precision: str, text: str) -> None:
    for call in (open_predictor, open_session):
        with pytest.raises(ConfigError, match=text):
            call(exported / "onnx" / "model.onnx", precision=precision)


@pytest.mark.parametrize("settings", [{"threads": 2}, {"level": "basic"}])
def test_torchs_files_heed_no_settings_of_onnxruntime(
    exported: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"model\.pt runs in torch"):
        open_session(exported / "model.pt", SessionSettings(**settings))


def test_openvino_has_no_levels(exported: Path) -> None:
    with pytest.raises(ConfigError, match="OpenVINO has none; got 'basic'"):
        open_onnx(exported / "onnx" / "model.onnx", "openvino", level="basic")


@pytest.mark.parametrize(
    ("name", "size", "labels"),
    [
        ("convit_nano", (32, 32), list("0123456789")),
        ("convit_nano.fashion_mnist", (28, 28), ["T-shirt/top", "Trouser"]),
        ("alternet_nano.fashion_mnist", (28, 28), ["T-shirt/top", "Trouser"]),
        ("convit_tiny", (224, 224), ["tench", "goldfish"]),
        ("resnet_50.hdvw_cifar100", (32, 32), []),
    ],
)
def test_images_are_prepared_as_for_the_weights_that_are_named(
    name: str, size: tuple[int, int], labels: list[str]
) -> None:
    input, names = opening._described_by(name)
    assert input.size == size
    assert [found.partition(",")[0] for found in names[: len(labels) or 1]] == labels


@pytest.mark.parametrize(
    ("provider", "given", "gpus"),
    [("cuda", None, 1.0), ("cuda", 0.0, 0.0), ("cuda", 0.5, 0.5), ("cpu", None, 0.0)],
)
@pytest.mark.parametrize(("file", "threads"), [("onnx/model.onnx", 3), ("model.pt", 0)])
def test_an_actor_has_the_gpus_and_threads_that_are_asked_for(
    provider: str, given: float | None, gpus: float, file: str, threads: int, exported: Path
) -> None:
    cluster = {"actors": 0, "gpus_per_actor": given, "address": ""}
    model = str(exported / file)
    engine: Any = _batch.ray_engine(
        predict.load_predictor, model, provider, {"threads": 3}, cluster
    )
    assert (engine.gpus_per_actor, engine.threads) == (gpus, 3)
    assert engine.open_model.keywords["settings"] == {"threads": threads}


def test_the_bounded_child_gets_the_libraries(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("zoo.cli._limited.run_limited", lambda args: started.append(args) or 0)
    monkeypatch.setattr("export.runtime.plugins.load_library", lambda path: ())
    words = ("--untrusted", "--provider-library", "a.so", "--provider-library", "b.so")
    assert status("predict", exported / "onnx" / "model.onnx", SCAN, *words) == 0
    assert started[0][:5] == ["predict", "--provider-library", "a.so", "--provider-library", "b.so"]


@pytest.mark.parametrize("trust_code", [False, True])
def test_bench_opens_a_file_with_the_trust_that_is_given(
    trust_code: bool, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def opened(path: Path, provider: str, **given: Any) -> Any:
        seen.append(given)
        return SimpleNamespace(run=np.asarray, metadata={"input": zoo.InputSpec().to_dict()})

    monkeypatch.setattr(opening, "open_onnx", opened)
    settings = side_by_side.LatencySettings(trust_code=trust_code, threads=2)
    side_by_side._open_artefact("model.onnx", settings)
    assert seen == [{"threads": 2, "trust_code": trust_code}]


def test_bench_takes_no_keywords_of_a_file() -> None:
    with pytest.raises(ConfigError, match=r"\(--set depth\) are for models"):
        side_by_side.bench_model("model.onnx", keywords={"depth": 3})


def test_two_sizes_of_one_export_are_refused() -> None:
    model = zoo.create_model("convit_nano")
    spec, input = ExportSpec(img_size=(64, 64)), zoo.InputSpec(size=(48, 48))
    with pytest.raises(ConfigError, match=r"\(64, 64\) and the input for \(48, 48\)"):
        describe_for(model, spec, input)
    same = zoo.InputSpec(size=(64, 64), crop_pct=1.0)
    assert describe_for(model, spec, same).input == same
    assert describe_for(model, spec, None).input.size == (64, 64)
    assert describe_for(model, ExportSpec(), input).input == input
