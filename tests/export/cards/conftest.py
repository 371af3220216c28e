"""Measured files that a test may change, and a place from which snippets run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ...hub.client import ROOT
from ...hub.server import HubServer, running

CARDS = ROOT / "model_cards"
MEASURED = CARDS / "measured"
NANO = "convit_nano.digits"
RANDOM = "convit_nano.random"  # time does not depend on the weights

Edit = Callable[[str, Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A copy of what was measured of convit_nano: accuracy and parity of its weights, speed."""
    out = tmp_path / "measured"
    shutil.copytree(MEASURED / NANO, out / NANO)
    shutil.copytree(MEASURED / RANDOM, out / RANDOM)
    return out


@pytest.fixture
def edit(measured: Path) -> Edit:
    """Change a measured file of convit_nano.digits in place."""

    def change(file: str, how: Callable[[dict[str, Any]], None]) -> None:
        path = measured / NANO / file
        content = json.loads(path.read_text(encoding="utf-8"))
        how(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return change


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    """A Hub of its own for the module."""
    with running() as server:
        yield server
        assert not server.unhandled
