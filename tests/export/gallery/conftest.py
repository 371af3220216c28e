"""A browser where there is one, and a visible account of why there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks.browser import why_no_browser, why_no_node

from ...hub.server import HubServer, running


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
