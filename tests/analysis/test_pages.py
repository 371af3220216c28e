"""docs/analyses shows what was measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "analyses").glob("*.md"))


def test_pages_show_what_was_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.analyses", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [*PAGES, ROOT / "docs" / "faq.md"], ids=lambda page: page.stem)
def test_links_and_pictures_exist_and_are_small(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve()
        assert path.is_file(), target
        if path.suffix == ".png":
            assert path.stat().st_size < 100_000, f"{target}: {path.stat().st_size} bytes"


def test_every_figure_is_shown() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    figures = {path.name for path in (ROOT / "docs" / "images" / "analyses").iterdir()}
    assert figures
    assert not {name for name in figures if name not in shown}
