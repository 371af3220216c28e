"""Cores that a process may really use: affinity and the quotas of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo.data.cores import available_cores

ALL = range(8)


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(ALL), raising=False)


def group(root: Path, own: str, **files: str) -> int:
    """Cores with `files` (name with "__" for "/" and "-" for ".") and this /proc/self/cgroup."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("cpu_max", "cpu.max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "own").write_text(own)
    return available_cores(root, root / "own")


def test_without_a_quota_all_cores_of_the_affinity_count(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/a\n", a__cpu_max="max 100000\n") == 8


def test_a_quota_of_the_own_group_counts_in_whole_cores(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/a/b\n", a__b__cpu_max="350000 100000\n") == 3


def test_a_quota_of_a_group_above_counts_too(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/a/b\n", a__cpu_max="200000 100000\n") == 2


def test_less_than_a_core_is_one(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/a\n", a__cpu_max="50000 100000\n") == 1


def test_quotas_of_version_1_count(tmp_path: Path) -> None:
    (tmp_path / "cpu" / "x").mkdir(parents=True)
    (tmp_path / "cpu" / "x" / "cpu.cfs_quota_us").write_text("400000\n")
    (tmp_path / "cpu" / "x" / "cpu.cfs_period_us").write_text("100000\n")
    assert group(tmp_path, "4:cpu,cpuacct:/x\n2:memory:/y\n") == 4


def test_nonsense_is_no_quota(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/a\n", a__cpu_max="nonsense\n") == 8
