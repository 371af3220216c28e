"""The journey of examples/finetune.py: a folder becomes weights that four readers load."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .client import ROOT

READERS = ("torch.hub", "ONNX Runtime, without torch", "zoo.from_pretrained", "timm")


def check(text: str) -> None:
    """What the journey prints if it went all the way."""
    commands = re.findall(r"^\$ convattn (\w+)", text, flags=re.MULTILINE)
    assert commands == ["train", "evaluate", "bundle", "verify", "publish"]
    assert text.index("without this project") < text.index("convattn_zoo-0.1.0-py3-none-any.whl")
    assert "measured on 100 of 100 images" in text
    assert re.search(r"^published you/even_or_odd v1\.0\.0 at commit [0-9a-f]{40}$", text, re.M)
    answers = re.findall(r"^  (even|odd) +(.+)$", text, flags=re.MULTILINE)
    assert len({answer for answer, _ in answers}) == 1
    assert len(answers) == len(READERS)
    for (_, reader), name in zip(answers, READERS, strict=True):
        assert reader.startswith(name)


@pytest.mark.slow
def test_a_folder_becomes_a_hub_repository_that_four_readers_load(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "examples/finetune.py", "--out", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check(done.stdout)
    card = (tmp_path / "out" / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "Single digits in the middle of the picture" in card


def test_the_hub_journey_in_the_transcripts_went_all_the_way() -> None:
    text = (ROOT / "docs" / "transcripts" / "finetune.txt").read_text(encoding="utf-8")
    check(text)
    assert "/tmp" not in text
    assert "127.0.0.1" not in text
    took = re.search(r"from the folder to four readers in \d+ s, (\d+) s of the processor$", text)
    assert took is not None
    assert int(took[1]) < 180  # one after the other: on a machine with nothing else to do, the time
