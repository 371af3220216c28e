"""Tests leave the user's files alone, reach no network, and have no more rights than a user."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.surroundings import as_a_user
from zoo.files.ledger import known_digests, remember
from zoo.files.local import home


def test_every_test_has_a_home_of_its_own(exported: Path) -> None:
    """`exported` holds a TorchScript file, which the session's home knows."""
    assert known_digests()
    for name in ("HOME", "CONVATTN_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        assert os.environ[name].startswith(os.environ["HOME"])
    remember(["0" * 64])


def test_what_another_test_left_is_gone() -> None:
    assert "0" * 64 not in known_digests()
    assert not (home() / "pins.json").exists()


def test_settings_of_the_user_are_not_seen() -> None:
    seen = {name for name in os.environ if name.startswith(("CONVATTN_", "HF_"))}
    assert not seen & {"CONVATTN_MIRROR", "CONVATTN_CATALOG", "HF_TOKEN", "HF_HUB_OFFLINE"}


@pytest.mark.parametrize("way", ["connect", "connect_ex"])
def test_no_connection_leaves_this_machine(way: str) -> None:
    with socket.socket() as made, pytest.raises(OSError, match="reached for the network"):
        getattr(made, way)(("192.0.2.1", 80))  # an address for documentation (RFC 5737)


def test_processes_are_told_of_a_proxy_that_does_not_answer() -> None:
    code = "import urllib.request; urllib.request.urlopen('http://192.0.2.1/', timeout=60)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Connection refused" in done.stderr


def test_modes_hold_for_root_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with as_a_user(), pytest.raises(PermissionError):
        (tmp_path / "file").write_text("")
    tmp_path.chmod(0o700)
    (tmp_path / "file").write_text("")
