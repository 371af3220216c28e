"""`convattn card`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zoo.cli import main

from .conftest import MEASURED, NANO


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_card_prints_markdown(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("card", NANO, "--measured", measured) == 0
    out = capsys.readouterr().out
    assert out.startswith("---\n")
    assert f"\n# {NANO}\n" in out
    assert "![" not in out  # pictures belong to a folder


def test_card_prints_its_facts_as_json(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("card", NANO, "--measured", measured, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    stored = json.loads((MEASURED / NANO / "accuracy.json").read_text("utf-8"))
    assert found["accuracy"] == stored
    assert found["weights_sha256"] == stored["weights_sha256"]
    assert found["parity"]["parity.json"][0]["provider"] == "torch-cpu"


def test_card_writes_card_pictures_and_results(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cards"
    assert run("card", NANO, "--measured", measured, "--out", out) == 0
    assert (out / f"{NANO}.md").is_file()
    assert (out / "images" / NANO / "gates.png").is_file()
    assert (out / "eval_results" / NANO / "digits.yaml").is_file()
    assert not (out / "README.md").exists()
    assert f"wrote {out / NANO}.md and 6 files for it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "one or more names, or --all"),
        ((NANO, "--all"), "one or more names, or --all"),
        (("--all",), "--all needs --out DIR"),
        ((NANO, "convit_tiny", "--json"), "--json prints one card's facts"),
    ],
)
def test_card_explains_its_usage(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("card", *arguments) == 2
    assert says in capsys.readouterr().err


def test_card_without_a_checkout_asks_for_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("card", NANO, "--measured", tmp_path / "absent") == 3
    assert "not in the installed package: name the folder with --measured DIR" in (
        capsys.readouterr().err
    )


def test_card_of_other_weights_ends_with_the_status_of_integrity(
    measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = measured / NANO / "accuracy.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "weights_sha256": "0" * 64}))
    assert run("card", NANO, "--measured", measured) == 4
    assert "measure again" in capsys.readouterr().err
