"""Processor cores that this process may really use: affinity and the quota of its control group.

`os.cpu_count` counts the machine's cores; more threads than the quota allows wait for each other
(two OpenMP threads on one core are many times slower than one).
"""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def available_cores(root: Path = _ROOT, own: Path = _OWN) -> int:
    """Whole cores for this process, at least 1.

    Args:
        root, own: where Linux mounts control groups and names the process's own.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quotas = [quota for folder in _groups(root, own) if (quota := _quota(folder)) is not None]
    return max(1, int(min([cores, *quotas])))


def _groups(root: Path, own: Path) -> list[Path]:
    """The folders of the process's group and of all groups above it, in versions 1 and 2."""
    folders = [root, root / "cpu"]
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        inside = base / path.lstrip("/")
        folders += [inside, *(up for up in inside.parents if up.is_relative_to(base))]
    return folders


def _quota(folder: Path) -> float | None:
    """Cores that a group may use on average; None for no limit."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        share = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None
