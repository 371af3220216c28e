"""CONTRIBUTING.md adds a model: its files, in a copy of the repository, do what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("zoo", "export", "tests", "benchmarks", "docs", "model_cards")
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROW, ENTRY = re.findall(r"^(?=\| `convmixer|- ConvMixer).*$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the files that the page shows, and nothing of its fourth step."""
    place = tmp_path_factory.mktemp("newcomer")
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for file in ROOT.glob("*.*"):
        if file.is_file():
            shutil.copy(file, place)
    files = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(files) == 3
    for name, text in files:
        assert not (place / name).exists()
        (place / name).write_text(text, encoding="utf-8")
    return place


def run(copy: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of ``python -m WORDS`` in the copy."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=copy,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(copy)},
    )
    return done.returncode, done.stdout + done.stderr


def add(file: Path, before: str, line: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1
    file.write_text(text.replace(before, f"{line}\n{before}"), encoding="utf-8")


def test_the_network_is_as_short_as_promised() -> None:
    code = re.search(r"# zoo/models/convmixer\.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 45


def test_the_files_are_formatted(copy: Path) -> None:
    """Before the page's last step, so that its example does not fail there."""
    added = [str(path.relative_to(copy)) for path in copy.rglob("*convmixer.py")]
    assert len(added) == 3
    assert run(copy, "ruff", "check", *added)[0] == 0
    assert run(copy, "ruff", "format", "--check", *added)[0] == 0


@pytest.mark.slow
def test_what_is_missing_is_said_and_then_all_passes(copy: Path) -> None:
    words = ["-m", "not slow", "-k", "convmixer or cost_table"]
    two = ["tests/contract/test_new_families.py", "tests/contract/test_documents.py"]
    twin = copy / "tests/reference/naive_convmixer.py"
    kept = twin.read_bytes()
    twin.unlink()
    code, said = run(copy, "pytest", "-q", *two, *words)
    assert code == 1
    for hint in (
        "write its twin, tests/reference/naive_convmixer.py",
        "README.md lacks a row in the table of its section Models, like `convmixer_*`",
        "CHANGELOG.md lacks a line that names its models, like `convmixer_*`",
        "convmixer_256_8: its parameters and MACs are not counted yet; run `make tables`",
    ):
        assert hint in said
    twin.write_bytes(kept)

    assert "tables: .venv/.dev\n\t$(BIN)/python -m benchmarks.model_costs" in (
        ROOT / "Makefile"
    ).read_text(encoding="utf-8")
    assert run(copy, "benchmarks.model_costs") == (0, "")
    add(copy / "README.md", "\nAll sizes, with parameters", ROW)
    add(copy / "CHANGELOG.md", "- Registry of frozen", ENTRY)
    code, said = run(copy, "pytest", "-q", "tests/contract", *words)
    assert code == 0, said
    assert re.search(r"\d\d+ passed", said), said


@pytest.mark.slow
def test_the_model_is_exported_and_images_too_small_for_it_are_refused(copy: Path) -> None:
    words = ["zoo", "export", "convmixer_256_8", "--init", "0", "--out", "exported/convmixer"]
    assert run(copy, *words)[0] == 0
    program = "import torch, zoo; zoo.create_model('convmixer_256_8')(torch.zeros(2, 3, 5, 9))"
    (copy / "small.py").write_text(program, encoding="utf-8")
    code, said = run(copy, "small")
    assert code == 1
    assert said.endswith("ConvMixer needs images of at least 7 x 7 pixels; got 5 x 9\n")
