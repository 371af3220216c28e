"""Errors that are put into code, what is known of them, and the tests that have to notice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import mutation, suite
from zoo.files.processes import run_python

SOURCE = b'''"""A text with 1 + 1."""
def f(a: int = 2) -> bool:
    check(a)
    if not a < 3 and a:
        raise ValueError(f"{a + 1} is not 4")
    return True
'''
TOY = b"def f(a):\n    return a + 1\n\n\ndef g(a):\n    return a * 2\n"
TESTS = """import sys
import pytest
from zoo import sums

@pytest.fixture(scope="session")
def doubled():
    return sums.g(3)

def test_one_more():
    assert sums.f(1) == 2

def test_twice(doubled):
    assert doubled == 6

def test_only_watched():
    sums.f(1)
    assert sys.gettrace()
"""


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


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkout of one file, in which every second error is noticed."""
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "sums.py").write_bytes(TOY)
    asked: list[object] = []

    class Tests:
        noticed = ""

        def __init__(self, *places: object) -> None:
            pass

        def holds(self) -> bool:
            return True

        def outcome(self, at: tuple[str, int] | None) -> str:
            asked.append(at)
            return ("killed", "survives", "hangs")[len(asked) % 3 - 1] if at else "killed"

    monkeypatch.setattr(mutation, "ROOMS", {"toy": ("zoo/sums.py", "tests")})
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "copy_checkout", lambda place: _copied(place, tmp_path))
    monkeypatch.setattr(mutation, "Tests", Tests)
    return tmp_path


def _copied(place: Path, root: Path) -> None:
    (place / "zoo").mkdir(parents=True)
    (place / "zoo" / "sums.py").write_bytes((root / "zoo" / "sums.py").read_bytes())


def _measured(monkeypatch: pytest.MonkeyPatch, toy: Path, *options: str) -> dict[str, object]:
    monkeypatch.setattr(sys, "argv", ["mutation", "--out", str(toy), *options])
    mutation.main()
    row: dict[str, object] = json.loads((toy / mutation.FILE).read_text())["rooms"]["toy"]
    assert len(str(row.pop("sources"))) == 64
    return row


def test_a_later_run_goes_on_until_the_sources_change(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = _measured(monkeypatch, toy, "--mutants", "2")
    survivors = row.pop("survivors")
    assert row == {"seed": 0, "possible": 4, "drawn": 2, "killed": 1, "hanging": 0}
    row = _measured(monkeypatch, toy, "--mutants", "3")
    assert row.pop("survivors") == survivors
    assert row == {"seed": 0, "possible": 4, "drawn": 3, "killed": 2, "hanging": 1}
    row = _measured(monkeypatch, toy, "--again", "--mutants", "3")
    assert row == {
        "seed": 0, "possible": 4, "drawn": 3, "killed": 3, "hanging": 1, "survivors": [],
    }  # fmt: skip
    row = _measured(monkeypatch, toy, "--again")
    assert (row["drawn"], row["killed"]) == (4, 3)
    (toy / "zoo" / "sums.py").write_bytes(TOY + b"one = 1\n")
    row = _measured(monkeypatch, toy, "--minutes", "0")
    assert (row["possible"], row["drawn"]) == (5, 1)


@pytest.mark.slow
def test_an_error_is_noticed_by_the_tests_that_enter_its_function(tmp_path: Path) -> None:
    place = tmp_path / "checkout"
    place.mkdir()
    (place / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")
    for file, text in (("zoo/__init__.py", ""), ("zoo/sums.py", TOY.decode()),
                       ("tests/test_sums.py", TESTS)):  # fmt: skip
        (place / file).parent.mkdir(exist_ok=True)
        (place / file).write_text(text)
    script = f"""
import json
from pathlib import Path
from benchmarks.forked_tests import Tests
place, toy = Path({str(place)!r}), Path({str(place / "zoo/sums.py")!r})
tests = Tests(place, ["zoo/sums.py"], ["tests"])
def seen(line):
    return tests.outcome(("zoo/sums.py", line)), tests.noticed.rpartition(":")[2]
outcomes = [seen(2), tests.holds(), seen(2)]
for before, after in (("a + 1", "a - 1"), ("a * 2", "a / 2"), ("a + 1", "(0).__class__(a) + 1")):
    toy.write_text({TOY.decode()!r}.replace(before, after))
    outcomes += [seen(line) for line in (2, 6)]
print(json.dumps(outcomes))
"""
    done = run_python("-c", script, capture_output=True, text=True, check=True)
    told, outcomes = done.stdout.splitlines()
    assert told.endswith("left out, fails as it is: tests/test_sums.py::test_only_watched")
    survives, more = ["survives", ""], ["killed", "test_one_more"]
    assert json.loads(outcomes) == [
        ["killed", "test_only_watched"], False, survives,
        more, survives, survives, ["killed", "test_twice"], survives, survives,
    ]  # fmt: skip


def test_scores_name_what_was_missed_and_why_the_rest_changes_nothing(tmp_path: Path) -> None:
    same = {"at": "zoo/a.py:5:1", "before": "a > 1", "after": "(a >= 1)", "reason": "a is odd"}
    row = {"possible": 9, "drawn": 3, "killed": 1, "hanging": 0,
           "survivors": [{"at": "zoo/a.py:3:7"}, same]}  # fmt: skip
    (tmp_path / mutation.FILE).write_text(json.dumps({"rooms": {"files": row}}))
    lines = suite.scores(tmp_path).splitlines()
    assert lines[2] == "| files | 9 | 3 | 1 | 0 | 1 | `zoo/a.py:3:7` |"
    assert lines[3] == "| weights | | not measured | | | | |"
    assert lines[-1] == "- `zoo/a.py:5:1`, `a > 1`: a is odd."
    assert {line.count("|") for line in lines[: 2 + len(mutation.ROOMS)]} == {8}
