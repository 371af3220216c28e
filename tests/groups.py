"""Which tests share a process, and what begins first.

With ``--dist loadscope`` the tests of a file stay together, and quick ones of `TOGETHER` a folder
at a time: their fixtures of the session, and what `tests/graphs.py` keeps, are made once. Of the
slow ones such a folder would be half of all. The dearest group begins first, by the times of
`make test-times`, so that none is left for the end; ``--shuffle SEED`` asks for another order.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from benchmarks.suite import FILE, MEASURED

TOGETHER = ("tests/export", "tests/hub")
UNKNOWN = 10.0  # seconds of a file that was not measured


def group_of(file: str, slow: bool = False) -> str:
    """The group of a file of tests, by its path in the repository."""
    folder = str(PurePosixPath(file).parent)
    return folder if folder.startswith(TOGETHER) and not slow else file


def in_order(files: Mapping[str, float], slow: bool = False) -> dict[str, float]:
    """Groups of files with their seconds, the dearest first."""
    groups: dict[str, float] = defaultdict(float)
    for file, seconds in files.items():
        groups[group_of(file, slow)] += seconds
    return dict(sorted(groups.items(), key=lambda group: -group[1]))


class Groups(LoadScopeScheduling):
    """A group at a time to each process, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0], _is_slow(self.config))


def _is_slow(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "slow")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups | None:
    """For ``--dist loadscope``. A mark for each group, xdist's own way, says nothing to pytest 9.2,
    and nobody is told.
    """
    return Groups(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, help="run groups, files and tests in an order drawn so")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The dearest group first, or with ``--shuffle SEED`` any: then tests of a file still follow
    each other, as their fixtures are made once.
    """
    if (seed := config.getoption("shuffle")) is not None:
        random.Random(seed).shuffle(items)
        _gather(items, _file_of)
        _gather(items, lambda item: group_of(_file_of(item), _is_slow(config)))
        return
    path = MEASURED / FILE
    measured = json.loads(path.read_text(encoding="utf-8"))["files"] if path.is_file() else {}
    slow = _is_slow(config)
    known = measured.get("slow" if slow else "quick", {})
    # in the order of collection, which is the same in every worker; a set's is not
    files = dict.fromkeys(map(_file_of, items))
    order = list(in_order({file: known.get(file, UNKNOWN) for file in files}, slow))
    items.sort(key=lambda item: order.index(group_of(_file_of(item), slow)))


def _gather(items: list[pytest.Item], part: Callable[[pytest.Item], str]) -> None:
    """Parts in the order of their first tests."""
    order = {name: place for place, name in enumerate(dict.fromkeys(map(part, items)))}
    items.sort(key=lambda item: order[part(item)])


def _file_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
