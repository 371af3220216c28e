"""Bundles and a Hub for the tests of publishing and loading."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.factory.create import create_random

from .client import BOTH, LOAD, METRICS, TOKEN, catalog, publish, python
from .server import HubServer, running


@pytest.fixture(scope="session")
def _hub() -> Iterator[HubServer]:
    with running() as server:
        server.tokens.add(TOKEN)
        yield server


@pytest.fixture
def hub(_hub: HubServer) -> Iterator[HubServer]:
    """The Hub; a test fails if it met a route that the Hub does not have."""
    _hub.faults = []
    yield _hub
    assert not _hub.unhandled


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of convit_nano.digits@1.0.0. Copy it before changing anything."""
    import export

    model = zoo.create_model("convit_nano.digits@1.0.0", pretrained=True)
    out = tmp_path_factory.mktemp("bundles") / "nano"
    export.write_bundle(model, out, metrics=METRICS, repo="org/nano")
    return out


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """A copy of `bundle`."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two versions of one set of weights, each more than 10 MiB: "1.0.0" and "1.1.0"."""
    import export

    found = {}
    for seed, version in enumerate(("1.0.0", "1.1.0")):
        model = create_random("convit_nano", seed, embed_dim=384, depth=3, local_up_to_layer=2)
        model.pretrained_cfg = replace(model.pretrained_cfg, tag="wide", labels=())
        found[version] = tmp_path_factory.mktemp("releases") / version
        export.write_bundle(
            model, found[version], version=version, metrics=METRICS, formats=("torchscript",),
            precisions=(),
        )  # fmt: skip
        size = (found[version] / "model.safetensors").stat().st_size
        assert size > 10 << 20
    return found


@pytest.fixture(scope="session")
def published(
    _hub: HubServer, releases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Version -> the record that publishing it printed."""
    home = tmp_path_factory.mktemp("publisher")
    records = {}
    for version, bundle in releases.items():
        ran = publish(home, _hub.endpoint, bundle, "org/wide", f"v{version}")
        assert ran.code == 0, ran.err
        records[version] = ran.json["record"]
    return records


@pytest.fixture(scope="session")
def known(
    published: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The catalogue of both releases, as a variable."""
    return catalog(tmp_path_factory.mktemp("catalog") / "c.json", *published.values())


@pytest.fixture(scope="session")
def warm(_hub: HubServer, known: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose cache holds both releases. Copy it before changing anything."""
    home = tmp_path_factory.mktemp("warm")
    loaded = python(LOAD, home, _hub.endpoint, BOTH, **known)
    assert [entry["version"] for entry in loaded.values()] == ["1.0.0", "1.1.0", "1.1.0"]
    return home


@pytest.fixture
def home(warm: Path, tmp_path: Path) -> Path:
    """A copy of `warm`."""
    return Path(shutil.copytree(warm, tmp_path / "home", symlinks=True))
