"""The walk-through of examples/hub_walkthrough.py: every step of it, as a user runs it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from .client import ROOT


@pytest.mark.slow
def test_the_hub_walkthrough_publishes_loads_breaks_and_heals() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "examples/hub_walkthrough.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    steps = re.split(r"\n(?=\d\. )", done.stdout)
    assert [step[0] for step in steps] == list("12345678")
    published, by_name, strict, hub, in_timm, plain, broken, _ = steps
    commits = re.findall(r"(v1\.\d\.0): (published|nothing to do), commit (\w{12})", published)
    assert [state for _, state, _ in commits] == ["published", "nothing to do"] * 2
    assert commits[0][2] == commits[1][2] != commits[2][2] == commits[3][2]
    assert "exit code 4" in published
    asked = [int(n) for n in re.findall(r"requests: (\d+)", by_name)]
    assert asked[0] > 0
    assert asked[1:] == [0, 0]
    for step, loads in ((by_name, 6), (strict, 1), (hub, 2), (in_timm, 2), (plain, 2), (broken, 2)):
        assert step.count("answers 7") == loads, step
    assert "torch loaded: False" in plain
    assert re.findall(r"exit code (\d)", broken) == ["4", "0"]


def test_the_hub_walkthrough_that_the_readme_shows_went_all_the_way() -> None:
    text = (ROOT / "docs" / "transcripts" / "hub.txt").read_text(encoding="utf-8")
    assert text.count("answers 7") == 15
    assert "/tmp" not in text
    assert "127.0.0.1" not in text
