"""A browser where there is one, and a visible account of why there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.browser import why_no_browser, why_no_node
from export.publishing.gallery import runtime
from zoo.files.local import home, write_bytes

from ...hub.server import HubServer, running
from ...surroundings import outside


@pytest.fixture(scope="session")
def browser_needed() -> None:
    """Skips without node, Chromium or the packages of site/gallery; fails where
    CONVATTN_REQUIRE_BROWSER=1 says that they are there.
    """
    _need(why_no_browser())


@pytest.fixture(scope="session")
def node_needed() -> None:
    """The same without Chromium."""
    _need(why_no_node())


@pytest.fixture(scope="session")
def tarball(browser_needed: None) -> Path:
    """onnxruntime-web in the home of the session, from the home and the network outside."""
    variables = outside()
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(variables):
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        data = runtime._cached()
    path = home() / "web" / runtime._TARBALL
    write_bytes(path, data)
    return path


@pytest.fixture
def web_runtime(tarball: Path) -> None:
    """The same in the home of one test."""
    place = home() / "web"
    place.mkdir(parents=True)
    shutil.copy(tarball, place)


def _need(missing: str) -> None:
    if missing and os.environ.get("CONVATTN_REQUIRE_BROWSER") == "1":
        pytest.fail(f"CONVATTN_REQUIRE_BROWSER=1, but {missing}")
    if missing:
        pytest.skip(f"no browser: {missing}")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A Hub on this machine."""
    with running() as server:
        yield server
