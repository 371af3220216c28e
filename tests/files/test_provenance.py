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
        (
            [
                "/a/convattn",
                "evaluate",
                "py:/b/me/net.py:Net",
                "--data=/b/me/photos/",
                "hf-hub:a/b",
            ],
            "convattn evaluate py:net.py:Net --data=photos/ hf-hub:a/b",
        ),
        (
            ["/a/convattn", "x", "https://h/x", "--set", "a=b/c"],
            "convattn x https://h/x --set a=b/c",
        ),
    ],
)
def test_the_command_is_the_one_to_type_again(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert command() == said
