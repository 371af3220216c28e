"""README, tables and licences say what the files say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo.costs import COSTS

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_shows_what_was_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.readme", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_readmes_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_cost_table_covers_every_model() -> None:
    costs = json.loads(COSTS.read_text(encoding="utf-8"))
    assert sorted(costs) == sorted(zoo.list_models())


@pytest.mark.parametrize("family", zoo.list_families())
def test_the_cost_table_is_what_the_models_cost(family: str) -> None:
    from benchmarks.model_costs import count_costs

    costs = json.loads(COSTS.read_text(encoding="utf-8"))
    smallest = min(zoo.list_models(family=family), key=lambda name: costs[name]["params"])
    assert count_costs(smallest) == costs[smallest]


def test_third_party_shows_the_licence_conflict() -> None:
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in text
    assert "CC-BY-NC" in text


def test_imagenet_labels_are_a_thousand_different_names() -> None:
    from zoo.labels import read_labels

    names = read_labels("imagenet1k")
    assert len(names) == len(set(names)) == 1000
    assert names[0] == "tench"
    assert names[-1].startswith("toilet tissue")


def test_every_bundled_file_is_in_the_catalogue() -> None:
    from zoo.weights import BUNDLED

    known = {w.bundled for n in zoo.list_models() for w in zoo.get_record(n).weights}
    assert {p.name for p in BUNDLED.glob("*.safetensors")} == known - {""}
