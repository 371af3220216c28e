"""Errors that are put into code, and the tables of what the tests cost and notice, by hand."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import mutation, suite
from tests import groups

SOURCE = b'''"""A text with 1 + 1."""
def f(a: int = 2) -> bool:
    check(a)
    if not a < 3 and a:
        raise ValueError(f"{a + 1} is not 4")
    return True
'''
XML = """<testsuites><testsuite>
<testcase classname="tests.export.cards.test_usage" name="a" time="1.5"/>
<testcase classname="tests.export.test_parity" name="b" time="0.25"/>
<testcase classname="tests.test_laws" name="c" time="3.0"/>
</testsuite></testsuites>"""


def test_every_place_of_an_error_is_found_and_texts_are_left_alone() -> None:
    found = {(m.line, m.before, m.after) for m in mutation.mutants("f.py", SOURCE)}
    assert found == {
        (2, "2", "(3)"),
        (3, "check(a)", "pass"),
        (4, "not a < 3 and a", "(not a < 3 or a)"),
        (4, "not a < 3", "(a < 3)"),
        (4, "a < 3", "(a <= 3)"),
        (4, "3", "(4)"),
        (5, 'raise ValueError(f"{a + 1} is not 4")', "pass"),
        (6, "True", "False"),
    }


def test_an_error_stands_where_it_was_put() -> None:
    source = "x = 'ü'; y = a > 1\n".encode()
    turned = next(m for m in mutation.mutants("f.py", source) if m.before == "a > 1")
    assert turned.applied(source).decode() == "x = 'ü'; y = (a >= 1)\n"


def test_what_a_room_is_tested_with_is_there() -> None:
    for sources, tests in mutation.ROOMS.values():
        assert all((mutation.ROOT / path).exists() for path in (sources + " " + tests).split())


def test_times_are_summed_by_folder(tmp_path: Path) -> None:
    folders = suite.by_folder(XML)
    assert folders == {
        "tests/export": {"tests": 2, "seconds": 1.8},
        "tests": {"tests": 1, "seconds": 3.0},
    }
    assert suite.times(tmp_path) == "Not measured yet on this version."
    slow = {"tests/hub": {"tests": 1, "seconds": 2.0}}
    (tmp_path / suite.FILE).write_text(json.dumps({"folders": folders, "slow": slow}))
    assert suite.times(tmp_path).splitlines()[2:] == [
        "| `tests` | 1 | 3.0 | 0 | 0.0 |", "| `tests/hub` | 0 | 0.0 | 1 | 2.0 |",
        "| `tests/export` | 2 | 1.8 | 0 | 0.0 |", "| all | 3 | 4.8 | 1 | 2.0 |",
    ]  # fmt: skip


def test_files_of_one_folder_share_a_group_and_the_dearest_group_begins() -> None:
    files = suite.by_file(XML, XML.replace("test_usage", "test_more"))
    assert files == {
        "tests/export/cards/test_more.py": 1.5, "tests/export/cards/test_usage.py": 1.5,
        "tests/export/test_parity.py": 0.5, "tests/test_laws.py": 6.0,
    }  # fmt: skip
    assert list(groups.in_order(files).items()) == [
        ("tests/test_laws.py", 6.0), ("tests/export/cards", 3.0), ("tests/export", 0.5),
    ]  # fmt: skip


def test_scores_name_what_was_not_noticed_and_not_measured(tmp_path: Path) -> None:
    row = {"possible": 9, "drawn": 2, "killed": 1, "survivors": [{"at": "zoo/a.py:3"}]}
    (tmp_path / mutation.FILE).write_text(json.dumps({"rooms": {"files": row}}))
    lines = suite.scores(tmp_path).splitlines()
    assert lines[2] == "| files | 9 | 2 | 1 | `zoo/a.py:3` |"
    assert lines[3] == "| weights | | not measured | | |"
