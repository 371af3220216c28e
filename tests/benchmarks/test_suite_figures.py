"""The tables of what the tests cost, by hand."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

from benchmarks import suite
from tests import groups
from zoo.files.processes import run_python

ROOT = Path(__file__).resolve().parents[2]
XML = """<testsuites><testsuite>
<testcase classname="tests.export.cards.test_usage" name="a" time="1.5"/>
<testcase classname="tests.export.test_parity" name="b" time="0.25"/>
<testcase classname="tests.test_laws" name="c" time="3.0"/>
</testsuite></testsuites>"""


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
    assert groups.in_order(files, slow=True) == files


def test_a_group_stays_in_one_process(tmp_path: Path) -> None:
    """xdist's own mark for groups was without effect under a newer pytest, and said nothing."""
    for name in ("test_a", "test_b"):
        (tmp_path / f"{name}.py").write_text(
            "import os, pytest\n"
            "@pytest.mark.parametrize('i', range(8))\n"
            "def test_it(i):\n"
            f"    path = '{tmp_path}/' + os.environ['PYTEST_XDIST_WORKER']\n"
            "    with open(path, 'a') as file:\n"
            f"        file.write('{name} ')\n"
        )
    options = ["-q", "-n", "2", "--dist", "loadscope", "--no-loadscope-reorder"]
    plugins = ["-p", "tests.groups", "-p", "no:cacheprovider"]
    paths = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = run_python("-m", "pytest", *options, *plugins, str(tmp_path), cwd=tmp_path, env=paths)
    assert done.returncode == 0
    written = [set(path.read_text().split()) for path in tmp_path.glob("gw*")]
    assert sorted(written, key=sorted) == [{"test_a"}, {"test_b"}]


def test_a_shuffled_run_keeps_the_tests_of_a_file_together(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        tests = "".join(f"def test_{number}(): pass\n" for number in range(8))
        (tmp_path / f"test_{name}.py").write_text(tests)
    options = ["--collect-only", "-p", "tests.groups", "-p", "no:cacheprovider"]
    paths = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}

    def order(*more: str) -> list[str]:
        words = ("-m", "pytest", *options, "-q", *more, str(tmp_path))
        done = run_python(*words, cwd=tmp_path, env=paths, capture_output=True, text=True)
        return [line for line in done.stdout.splitlines() if "::" in line]

    plain, shuffled = order(), order("--shuffle", "1")
    assert plain == [f"test_{name}.py::test_{number}" for name in "abc" for number in range(8)]
    assert shuffled == order("--shuffle", "1") != order("--shuffle", "2")
    assert sorted(shuffled) == plain != shuffled
    files = [line.partition("::")[0] for line in shuffled]
    assert sum(one != other for one, other in itertools.pairwise(files)) == 2
