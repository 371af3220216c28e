"""Seeds, a home of its own for every test, no network, a visible account of CUDA skips."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import surroundings

pytest_plugins = ("tests.graphs", "tests.groups")
REPOSITORY = Path(__file__).resolve().parents[1]


_GOLDEN = re.compile(r"\[golden-([^@]+)\](?:@.*)?$")  # a worker adds its group
_golden_outcomes: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden-report", help="write the outcome of every golden case as JSON")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    found = _GOLDEN.search(report.nodeid)
    if found and (report.when == "call" or report.outcome == "failed"):
        outcome = "expected failure" if hasattr(report, "wasxfail") else report.outcome
        _golden_outcomes[found[1]] = outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--golden-report")
    if path:
        from zoo.files.local import write_text
        from zoo.files.provenance import machine, parent_commit, versions

        content = {
            "command": f"python -m pytest tests/test_golden.py --golden-report {path}",
            "outcomes": dict(sorted(_golden_outcomes.items())),
            "versions": versions(),
            "machine": machine(),
            "parent_commit": parent_commit(),
        }
        write_text(path, json.dumps(content, indent=1) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    # What the zoo remembers of these tests is not to mix with what it remembers of their user.
    home = tempfile.TemporaryDirectory(prefix="convattn-home-")
    config.add_cleanup(home.cleanup)
    surroundings.close(Path(home.name))
    # Most tests run tiny operations, for which a pool of threads costs more than it gives.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that another test left behind; but what a fixture of the session exported is known as
    our own.
    """
    ledger = Path(os.environ["CONVATTN_HOME"]) / "exported.sha256"
    with tempfile.TemporaryDirectory(prefix="home-", ignore_cleanup_errors=True) as home:
        for name, value in surroundings.places(Path(home)).items():
            monkeypatch.setenv(name, value)
        if ledger.is_file():
            os.mkdir(os.environ["CONVATTN_HOME"])
            shutil.copy(ledger, os.environ["CONVATTN_HOME"])
        yield


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine only in tests marked `network`."""
    if request.node.get_closest_marker("network"):
        return
    for way in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, way, _guarded(getattr(socket.socket, way)))


def _guarded(connect: Callable[[socket.socket, Any], Any]) -> Callable[[socket.socket, Any], Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        host = address[0] if isinstance(address, tuple) else ""
        if host not in ("", "127.0.0.1", "::1", "localhost"):
            raise OSError(f"the test reached for the network: {address}")
        return connect(self, address)

    return guarded


def _why_no_cuda() -> str:
    if not torch.cuda.is_available():
        return "no NVIDIA GPU is visible to torch"
    from export.runtime.doctor import probe_providers

    found = probe_providers()["cuda"]
    return "" if found["runs"] else str(found["note"])


@pytest.fixture(scope="session")
def cuda() -> None:
    """The CUDA provider, or a skip that says why; a failure with CONVATTN_REQUIRE_CUDA=1."""
    why = _why_no_cuda()
    if why and os.environ.get("CONVATTN_REQUIRE_CUDA") == "1":
        pytest.fail(f"CONVATTN_REQUIRE_CUDA=1, but {why}")
    if why:
        pytest.skip(why)


@pytest.fixture(scope="session")
def _trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zoo.training.job import Job
    from zoo.training.recipe import Recipe
    from zoo.training.run import train_model

    out = tmp_path_factory.mktemp("training") / "run"
    recipe = Recipe(epochs=1, warmup_epochs=1)
    train_model(Job(model="convit_nano", data="digits", recipe=recipe), out)
    return out


@pytest.fixture
def tiny_run(_trained_once: Path, tmp_path: Path) -> Path:
    """A copy of a run directory after one epoch."""
    out = tmp_path / "run"
    shutil.copytree(_trained_once, out)
    return out


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a verified export of convit_nano. Copy it before changing anything."""
    import export
    import zoo

    out = tmp_path_factory.mktemp("export") / "convit_nano"
    export.export_model(zoo.create_model("convit_nano", pretrained=True), out)
    return out
