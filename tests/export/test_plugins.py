"""Providers that a library brings: what does not load, has no device, or quietly runs elsewhere."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from export.runtime import plugins
from export.runtime.doctor import PROBE
from export.runtime.opening import open_onnx
from export.runtime.plugins import load_library
from zoo.cli import main
from zoo.errors import ConfigError, NotFoundError, ProviderError

CPU = "CPUExecutionProvider"


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    path = tmp_path / "probe.onnx"
    path.write_bytes(PROBE)
    return path


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What libraries brought, forgotten afterwards."""
    found: dict[str, str] = {}
    monkeypatch.setattr(plugins, "_brought", found)
    return found


def test_a_library_that_does_not_load_says_why_without_places(tmp_path: Path) -> None:
    broken = tmp_path / "libacme_ep.so"
    broken.write_bytes(b"not a library")
    with pytest.raises(ProviderError, match=r"^libacme_ep\.so does not load: .+") as caught:
        load_library(broken)
    assert str(tmp_path) not in str(caught.value)
    assert caught.value.exit_code == 7
    with pytest.raises(NotFoundError, match="no such file"):
        load_library(tmp_path / "none.so")


def test_a_library_of_something_else_does_not_become_a_provider(brought: dict[str, str]) -> None:
    spec = importlib.util.find_spec("numpy._core._multiarray_umath")
    assert spec is not None
    assert spec.origin
    with pytest.raises(ProviderError, match=r"does not load|finds no device"):
        load_library(spec.origin)
    assert not brought


def test_a_provider_that_no_library_brought_is_refused(probe: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"got 'AcmeExecutionProvider'\. Others come in a library"
    ):
        open_onnx(probe, "AcmeExecutionProvider")


def test_a_session_that_quietly_runs_on_the_cpu_is_an_error(
    probe: Path, brought: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new interface falls back as the old one does: its device is asked for, another leads."""
    brought["AcmeExecutionProvider"] = "libacme_ep.so"
    monkeypatch.setattr("export.runtime.providers.devices_of", lambda _: _cpu_devices())
    with pytest.raises(ProviderError, match=rf"Acme.* did not run probe\.onnx: .* runs on {CPU}"):
        open_onnx(probe, "AcmeExecutionProvider")


def _cpu_devices() -> list[Any]:
    return [d for d in onnxruntime.get_ep_devices() if d.ep_name == CPU]


def test_a_session_on_the_devices_of_a_library_is_attested(
    probe: Path, brought: dict[str, str]
) -> None:
    """Through the new interface; the only device that every machine has is onnxruntime's own."""
    brought[CPU] = "libacme_ep.so"
    session = open_onnx(probe, CPU)
    assert session.run(np.full((1, 1, 1, 1), -1, np.float32)).item() == 0.0
    proof = session.attestation
    assert (proof["library"], proof["nodes"]) == ("libacme_ep.so", {CPU: 1})
    assert proof["devices"][0]["provider"] == CPU
    assert proof["devices"][0]["type"] == "CPU"


def test_names_are_those_of_devices_that_appear_with_the_library(
    tmp_path: Path, brought: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libacme_ep.so"
    library.write_bytes(b"")
    devices = [SimpleNamespace(ep_name=CPU)]
    fake = SimpleNamespace(
        get_ep_devices=lambda: devices,
        register_execution_provider_library=lambda name, path: devices.append(
            SimpleNamespace(ep_name="Acme")
        ),
    )
    monkeypatch.setattr(plugins, "import_runtime", lambda: fake)
    assert load_library(library) == ("Acme",)
    assert brought == {"Acme": "libacme_ep.so"}


def test_the_command_loads_the_library_first(
    tmp_path: Path, probe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "libacme_ep.so"
    broken.write_bytes(b"")
    words = ["verify", str(tmp_path), "--provider", "Acme", "--provider-library", str(broken)]
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 7
    assert "libacme_ep.so does not load" in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        main(["verify", str(tmp_path), "--provider", "Acme"])
    assert done.value.code == 2


def test_doctor_lists_the_devices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    listed = json.loads(capsys.readouterr().out)["ep_devices"]
    assert [device["provider"] for device in listed][:1] == [CPU]
    assert listed[0]["version"] == onnxruntime.__version__
