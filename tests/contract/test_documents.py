"""README, tables and licences say what the files say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo.catalog.tables import read_costs

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_shows_what_was_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.readme", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("family", zoo.list_families())
def test_the_cost_table_is_what_the_models_cost(family: str) -> None:
    from benchmarks.model_costs import count_costs

    costs = read_costs()
    smallest = min(zoo.list_models(family=family), key=lambda name: costs[name]["params"])
    assert count_costs(smallest) == costs[smallest]


def test_every_test_that_the_threat_table_names_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^- .*?(?=^- |\n\n|\Z)", text.partition("An entry is a kind")[2], re.M | re.S
    )
    assert len(rows) >= 20
    for row in rows:
        named = re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", row)
        assert named, row
        for file, test in named:
            assert f"\ndef {test}(" in (ROOT / file).read_text(encoding="utf-8"), (file, test)


def test_third_party_shows_the_licence_conflict() -> None:
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in text
    assert "CC-BY-NC" in text


def test_imagenet_labels_are_a_thousand_different_names() -> None:
    from zoo.catalog.tables import read_labels

    names = read_labels("imagenet1k")
    assert len(names) == len(set(names)) == 1000
    assert names[0] == "tench"
    assert names[-1].startswith("toilet tissue")


def test_every_bundled_file_is_in_the_catalogue() -> None:
    from zoo.files.fetch import BUNDLED

    known = {w.bundled for n in zoo.list_models() for w in zoo.get_record(n).weights}
    assert {p.name for p in BUNDLED.glob("*.safetensors")} == known - {""}
