"""Which tests share a process, and what begins first.

With ``--dist loadgroup`` the tests of a file stay together, and those of `TOGETHER` a folder at a
time: their fixtures of the session, and what `tests/graphs.py` keeps, are made once. The dearest
group begins first, by the times of `make test-times`, so that none is left for the end.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

import pytest

from benchmarks.suite import FILE, MEASURED

TOGETHER = ("tests/export", "tests/hub")
UNKNOWN = 10.0  # seconds of a file that was not measured


def group_of(file: str) -> str:
    """The group of a file of tests, by its path in the repository."""
    folder = str(PurePosixPath(file).parent)
    return folder if folder.startswith(TOGETHER) else file


def in_order(files: Mapping[str, float]) -> dict[str, float]:
    """Groups of files with their seconds, the dearest first."""
    groups: dict[str, float] = defaultdict(float)
    for file, seconds in files.items():
        groups[group_of(file)] += seconds
    return dict(sorted(groups.items(), key=lambda group: -group[1]))


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("loadgroup", default=False):
        return
    path = MEASURED / FILE
    measured = json.loads(path.read_text(encoding="utf-8"))["files"] if path.is_file() else {}
    known = measured.get("slow" if config.getoption("markexpr") == "slow" else "quick", {})
    # in the order of collection, which is the same in every worker; a set's is not
    files = dict.fromkeys(item.nodeid.partition("::")[0] for item in items)
    order = list(in_order({file: known.get(file, UNKNOWN) for file in files}))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item.nodeid.partition("::")[0])))
    items.sort(key=lambda item: order.index(group_of(item.nodeid.partition("::")[0])))
