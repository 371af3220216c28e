"""The toy catalogue stands in for the real one in every test here."""

from __future__ import annotations

import pytest

from zoo.catalog import registry

from .toys import TOYS


@pytest.fixture(autouse=True)
def _toy_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "families", lambda: TOYS)
    monkeypatch.setattr(registry, "_registered", [])
    monkeypatch.setattr(registry, "_catalogs_read", set())
    monkeypatch.delenv("CONVATTN_CATALOG", raising=False)
