"""The command as a user meets it: output, JSON, exit codes, pipes. Heavy verbs run in this
process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
SCAN = str(REPOSITORY / "examples" / "digit_3.png")


def run(*args: str) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main(list(args))
    return int(stopped.value.code or 0)


def test_list_shows_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    out = capsys.readouterr().out
    for name in zoo.list_models():
        assert f"\n{name} " in out


def test_list_filters_and_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "convit_t*", "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in entries] == ["convit_tiny", "convit_tiny_plus"]
    assert entries[0]["params"] == 5_710_512


def test_aliases_are_listed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    assert "hdvw:" not in capsys.readouterr().out
    assert run("list", "hdvw:*", "--aliases", "--json") == 0
    entries = {e["name"]: e for e in json.loads(capsys.readouterr().out)}
    assert len(entries) == 179
    assert entries["hdvw:resnet_mcdo_smoothing_50"]["model"] == "resnet_50"
    assert run("info", "hdvw:resnet_mcdo_50") == 0
    assert "resnet_50" in capsys.readouterr().out


def test_list_pretrained_shows_what_loads(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--pretrained", "--json") == 0
    names = [e["name"] for e in json.loads(capsys.readouterr().out)]
    assert names == zoo.list_models(pretrained=True)
    assert "convit_nano" in names


def test_info_and_cite_name_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "convit_nano") == 0
    out = capsys.readouterr().out
    assert "arXiv:2103.10697" in out
    assert "CC-BY-NC" in out
    assert "convit_nano.digits@1.0.0" in out
    assert run("cite", "conv_attention_vit_tiny") == 0
    out = capsys.readouterr().out
    assert "Park, Namuk" in out
    assert "@inproceedings" in out


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (("list", "timm:res*"), 3, "timm.list_models(pattern) lists such models"),
        (("info", "convit_tinny"), 3, "did you mean convit_tiny"),
        (("predict", "convit_nano.digit", SCAN), 3, "did you mean convit_nano.digits"),
        (("predict", "convit_nano@9.9.9", SCAN), 3, "no version 9.9.9"),
        (("predict", "convit_nano", "nowhere.png"), 3, "no such file"),
        (("predict", "convit_tiny_plus", SCAN), 3, "convattn train convit_tiny_plus"),
        (("predict", "./nowhere", SCAN), 3, "neither a model name nor a directory"),
        (("predict", "nowhere.onnx", SCAN), 3, "No such file"),
        (("export", "convit_tiny_plus", "--out", "x"), 3, "--init SEED"),
        (("export", "convit_nano", "--out", "x", "--init", "0", "--weights", "f"), 3, "not both"),
        (("verify", "nowhere"), 3, "no manifest.json"),
        (("train", "convit_nano", "--data", "mnist", "--out", "x"), 3, "no such folder: 'mnist'"),
        (("evaluate", "convit_nano", "--data", "mnist"), 3, "no such folder: 'mnist'"),
        (("lst",), 2, "Did you mean 'list'"),
        (("predict", "convit_nano"), 2, "IMAGES"),
        (("export", "convit_nano", "--out", "x", "--format", "tflite"), 2, "tflite"),
        (("predict", "convit_nano", SCAN, "--provider", "cuda"), 3, "exported files"),
        (("export", "convit_nano", "--out", ""), 2, "--out is empty; give it a value"),
        (("analyze", "gates", "convit_nano", "--out="), 2, "--out is empty"),
        (("train", "convit_nano", "--data", "digits", "--recipe=", "--out", "x"), 2, "--recipe is"),
        (("evaluate", "", "--data", "digits"), 2, "an argument is empty"),
    ],
)
def test_mistakes_say_what_to_do(
    args: tuple[str, ...],
    status: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*args) == status
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "ways"),
    [
        ("bundle --out x", ""),
        (f"predict {SCAN}", ". Or give --weights FILE (safetensors or a checkpoint)"),
        (
            "analyze gates --out x",
            ". Or give --weights FILE (safetensors or a checkpoint) or --init SEED for random "
            "weights",
        ),
    ],
)
def test_only_ways_to_weights_that_the_verb_has_are_named(
    verb: str, ways: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = verb.split()
    place = 2 if words[0] == "analyze" else 1
    assert run(*words[:place], "convit_tiny_plus", *words[place:]) == 3
    assert capsys.readouterr().err.rstrip().endswith(f"pass pretrained=False{ways}")


def test_errors_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "convit_tinny", "--json") == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "unknown_model"


def test_bugs_are_called_bugs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CONVATTN_TRACEBACK", raising=False)
    monkeypatch.setattr("zoo.cli.list.read_costs", lambda: 1 / 0)
    assert run("list") == 1
    assert "this is a bug" in capsys.readouterr().err


def test_an_interrupt_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.cli.list.read_costs", interrupt)
    assert run("list") == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (MemoryError(), 6, "memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError(), 1, "bug"),
    ],
)
def test_what_stops_a_verb_is_json_with_a_code(
    error: BaseException,
    status: int,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.delenv("CONVATTN_TRACEBACK", raising=False)
    monkeypatch.setattr("zoo.cli.list.read_costs", fail)
    assert run("list", "--json") == status
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_an_untrusted_file_answers_as_a_trusted_one(
    exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The limits of time and memory of the child are wide enough for a model of ours."""
    words = ("predict", str(exported / "onnx" / "model.onnx"), SCAN, "--json", "--topk", "2")
    assert run(*words) == 0
    expected = json.loads(capfd.readouterr().out)
    assert run(*words, "--untrusted") == 0
    assert json.loads(capfd.readouterr().out) == expected


def test_predict_prints_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("predict", "convit_nano", SCAN, "--topk", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "label", "probability"]
    assert lines[1].split()[1] == "3"
    assert len(lines) == 3
    assert run("predict", "convit_nano.digits@1.0.0", str(REPOSITORY / "examples"), "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert [e["top"][0]["label"] for e in entries] == [str(d) for d in range(10)]
    assert {len(e["top"]) for e in entries} == {3}


def test_predict_takes_exported_files_and_run_directories(
    exported: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for reference in (exported, exported / "onnx" / "model.onnx", exported / "model.pt"):
        assert run("predict", str(reference), SCAN, "--json") == 0
        assert json.loads(capsys.readouterr().out)[0]["top"][0]["label"] == "3"
    assert run("predict", str(tiny_run), SCAN) == 0


def test_a_run_directory_exports_and_verifies(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "exported"
    assert run("export", str(tiny_run), "--format", "onnx", "--out", str(out)) == 0
    assert "pass" in capsys.readouterr().out
    assert run("verify", str(out)) == 0
    assert "recomputed" in capsys.readouterr().out
    assert run("verify", str(tiny_run)) == 0
    assert "nothing is exported here yet" in capsys.readouterr().out


def test_verify_prints_json(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", str(exported), "--json") == 0
    assert json.loads(capsys.readouterr().out)["parity"]["passed"] is True


def test_verify_of_a_damaged_export_exits_with_4(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    (out / "onnx" / "model.onnx").write_bytes(b"x")
    assert run("verify", str(out)) == 4
    assert "model.onnx has 1 bytes" in capsys.readouterr().err


def test_random_weights_are_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run("export", "convit_nano", "--init", "3", "--format", "onnx", "--out", out) == 0
    assert "convit_nano.random" in capsys.readouterr().out
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["convattn"]["tag"] == "random"


def test_evaluate_writes_a_measured_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("evaluate", "convit_nano", "--data", "digits", "--part", "validation")
    assert run(*args, "--out", str(tmp_path)) == 0
    assert "convit_nano.digits on digits/validation" in capsys.readouterr().out
    found = json.loads((tmp_path / "convit_nano.digits" / "accuracy.json").read_text())
    assert found["results"]["digits/validation"]["acc1_percent"] >= 98.0
    assert {"versions", "machine", "command", "parent_commit"} <= set(found)


def test_doctor_tells_which_providers_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json") == 0
    assert json.loads(capsys.readouterr().out)["providers"]["cpu"]["runs"] is True


def test_train_shows_progress_on_stderr_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("train", "conv_attention_vit_nano", "--data", "digits", "--out", str(tmp_path / "r"))
    assert run(*args, "--epochs", "1", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["test"]["total"] == 364
    assert "epoch 1/1" in captured.err


def command(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "zoo", *args],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPOSITORY,
        env={**os.environ, **env},
    )


def test_pipes_get_no_colour_and_no_cut_lines() -> None:
    done = command("list", COLUMNS="40")
    assert done.returncode == 0, done.stderr
    assert "\033" not in done.stdout
    assert "…" not in done.stdout


def test_tables_fit_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.cli import _console as _text

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    text = _text.table(("model", "about"), [("convit_nano", "a long description of the model")])
    assert max(len(line) for line in text.splitlines()) <= 30
    assert "…" in text


def test_a_closed_pipe_is_quiet() -> None:
    command = [sys.executable, "-m", "zoo", "list"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=REPOSITORY) as process:
        process.stdout.close()  # before a word is written: a reader like `head` may be faster
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_foreign_packages_of_our_names_are_named(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "__init__.py").write_text("")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import zoo.cli; zoo.cli.main(['list'])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=60,
    )
    assert "another package named 'export'" in done.stderr, done.stderr
    assert done.returncode == 0


def test_help_lists_every_verb() -> None:
    lines = [
        line.split(maxsplit=1) for line in command("--help", COLUMNS="100").stdout.splitlines()
    ]
    from zoo.cli import _VERBS

    for verb, (_, line) in _VERBS.items():
        assert [verb, line] in lines


@pytest.mark.parametrize("verb", ["list", "--help"])
def test_looking_loads_nothing_heavy(verb: str) -> None:
    code = (
        "import sys; sys.argv = ['convattn', sys.argv[1]]\nfrom zoo.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'numpy', 'rich', 'onnx', 'timm', 'PIL'} & "
        "set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, verb],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
    )
    assert "HEAVY []" in done.stdout, done.stdout[-300:] + done.stderr
