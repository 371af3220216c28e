"""What a measured file says of the command that wrote it."""

from __future__ import annotations

import sys

import pytest

from zoo.files.provenance import command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/a/bin/convattn", "bench", "model", "x"], "convattn bench model x"),
        (["/a/zoo/__main__.py", "list"], "convattn list"),
        (
            ["/a/benchmarks/seeds.py", "/b/run", "--out", "o"],
            "python -m benchmarks.seeds run --out o",
        ),
    ],
)
def test_the_command_is_the_one_to_type_again(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert command() == said
