"""CONVATTN_CATALOG: a file of further weights."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError, NotFoundError, UnknownModelError

ROOT = Path(__file__).resolve().parents[2]


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "model": "toy_tiny",
        "tag": "private",
        "version": "1.0.0",
        "sha256": "0" * 64,
        "size_bytes": 1,
        "repo": "org/name",
        "revision": "a" * 40,
        **changes,
    }


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "catalog.json"
    monkeypatch.setenv("CONVATTN_CATALOG", str(path))
    return path


def test_a_catalog_file_adds_weights(catalog: Path) -> None:
    catalog.write_text(json.dumps([entry(), entry(version="1.1.0")]))
    assert zoo.get_record("toy_tiny").selected.name == "toy_tiny.private@1.1.0"
    assert zoo.list_models(pretrained=True, family="toy") == ["toy_nano", "toy_tiny"]


def test_a_catalog_file_is_read_once(catalog: Path) -> None:
    catalog.write_text(json.dumps([entry()]))
    assert len(zoo.get_record("toy_tiny").weights) == len(zoo.get_record("toy_tiny").weights) == 1


def test_a_catalog_file_may_state_input_and_metrics(catalog: Path) -> None:
    metric = {"name": "acc1_percent", "value": 90.0, "dataset": "toys", "source": "us"}
    spec = InputSpec(size=(16, 16), crop_pct=1.0)
    catalog.write_text(json.dumps([entry(input=spec.to_dict(), metrics=[metric])]))
    selected = zoo.get_record("toy_tiny").selected
    assert selected.input == spec
    assert dataclasses.asdict(selected.metrics[0]) == metric


BROKEN = {
    "not JSON": ("{", "Expecting property name"),
    "not a list": (json.dumps({"model": "toy_tiny"}), "is no JSON list of weights records"),
    "a list of names": (json.dumps(["toy_tiny"]), "must be an object; got 'toy_tiny'"),
    "an unknown field": (json.dumps([entry(hash="0")]), "hash is unknown"),
    "a missing field": (json.dumps([{"model": "toy_tiny"}]), "tag is missing"),
    "a bad digest": (json.dumps([entry(sha256="0")]), "sha256 must be 64"),
    "a bad metric": (
        json.dumps([entry(metrics=[{"name": "x"}])]),
        r"metrics\[0\].value is missing",
    ),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_catalog_file_is_named_with_its_fault(
    text: str, message: str, catalog: Path
) -> None:
    catalog.write_text(text)
    for _ in range(2):  # every time, not only at first
        with pytest.raises(ConfigError, match=message) as caught:
            zoo.list_models()
        assert str(catalog) in str(caught.value)


def test_a_missing_catalog_file_is_named(catalog: Path) -> None:
    with pytest.raises(NotFoundError, match=f"CONVATTN_CATALOG '{catalog}'.*No such file"):
        zoo.list_models()


def test_a_catalog_file_with_a_bad_entry_adds_nothing(catalog: Path) -> None:
    catalog.write_text(json.dumps([entry(), entry(model="toy_tinny")]))
    for _ in range(2):
        with pytest.raises(UnknownModelError, match="toy_tinny"):
            zoo.list_models()


def _list_with(catalog: Path) -> subprocess.CompletedProcess[str]:
    code = "import zoo; print(*zoo.list_models(with_tags=True))"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "CONVATTN_CATALOG": str(catalog)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_environment_adds_a_catalog_file_to_the_real_one(tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps([entry(model="convit_nano")]))
    done = _list_with(path)
    assert done.returncode == 0, done.stderr
    assert "convit_nano.private" in done.stdout.split()


def test_the_environment_with_a_broken_catalog_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    path.write_text("[")
    done = _list_with(path)
    assert done.returncode != 0
    assert "ConfigError: " in done.stderr
    assert f"{path.name}' is no JSON list of weights records" in done.stderr
