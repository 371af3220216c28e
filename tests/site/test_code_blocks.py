"""Every code block of the pages for readers is run, or says why not.

A reason stands above a block as ``<!-- not run: REASON -->``, or, for the lines of some verbs only,
as ``<!-- not run (train, publish): REASON -->``. Commands are also parsed, run or not, so that no
page shows an option that does not exist.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from zoo.cli import cli, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# minutes each: `make analyses` runs them and shows what came out; tests/analysis/test_command.py
# runs every analysis on few images
ANALYSES = ROOT / "docs" / "analyses"
_BLOCK = re.compile(
    r"(?:<!-- not run(?: \((?P<verbs>[\w, ]+)\))?: (?P<reason>[^>]+?) -->\n+)?"
    r"(?:<!-- begin [\w-]+ -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_NO_CODE = ("text", "console", "bibtex")  # what programs printed: tests of each page compare it


@dataclass(frozen=True)
class Block:
    """A block of a page."""

    page: Path
    language: str
    code: str
    reason: str
    verbs: frozenset[str]

    @property
    def is_run(self) -> bool:
        return not (self.reason and not self.verbs) and self.page.parent != ANALYSES

    def commands(self) -> Iterator[list[str]]:
        """The words of every line that calls `convattn`."""
        shell = "" if self.language == "python" else self.code
        for line in shell.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            words = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
            if words[:1] == ["convattn"]:
                yield words[1:]


def blocks(page: Path) -> list[Block]:
    found = []
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        language = match["language"]
        if language in _NO_CODE or match["code"].startswith("$ "):
            continue
        verbs = frozenset(filter(None, re.split(r"[, ]+", match["verbs"] or "")))
        reason = " ".join((match["reason"] or "").split())
        found.append(Block(page, language or "bash", match["code"], reason, verbs))
    return found


ALL = [block for page in PAGES for block in blocks(page)]
name = lambda page: str(page.relative_to(ROOT))  # noqa: E731
with_python = [p for p in PAGES if any(b.language == "python" and b.is_run for b in blocks(p))]
with_commands = [
    p
    for p in PAGES
    if any(b.language == "bash" and b.is_run and [*b.commands()] for b in blocks(p))
]


def test_every_block_is_of_a_kind_that_is_run_or_has_a_reason() -> None:
    assert len(ALL) > 40
    for block in ALL:
        runs = block.language in ("python", "toml") or [*block.commands()]
        assert runs or block.reason, f"{name(block.page)}: {block.code}"


def test_a_reason_that_points_to_a_test_points_to_one_that_exists() -> None:
    for block in ALL:
        for path in re.findall(r"(?:tests|examples)/[\w/]+\.py", block.reason):
            assert (ROOT / path).is_file(), f"{name(block.page)}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_have_the_options_that_a_page_shows(page: Path) -> None:
    for block in blocks(page):
        for words in block.commands():
            group: click.Command = cli
            context = click.Context(cli, info_name="convattn")
            while isinstance(group, click.Group):
                _, found, words = group.resolve_command(context, words)
                assert found is not None
                group, context = found, click.Context(found, parent=context)
            group.make_parser(context).parse_args(list(words))


@pytest.mark.parametrize("page", with_python, ids=name)
def test_a_pages_python_runs(page: Path, workplace: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.language == "python" and block.is_run:
            exec(compile(block.code, page.name, "exec"), names)


@pytest.mark.parametrize(
    "block", [b for b in ALL if b.language == "toml"], ids=lambda b: b.page.stem
)
def test_a_pages_toml_is_read(block: Block) -> None:
    assert tomllib.loads(block.code)


@pytest.mark.slow
@pytest.mark.parametrize("page", with_commands, ids=name)
def test_a_pages_commands_run(page: Path, workplace: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page):
        if not block.is_run:
            continue
        if block.language == "python":  # what the commands take may be made there
            exec(compile(block.code, page.name, "exec"), names)
        for words in block.commands():
            if words[0] in block.verbs:
                continue
            with pytest.raises(SystemExit) as stopped:
                main(words)
            assert not stopped.value.code, f"convattn {' '.join(words)}"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory like the root of a clone, in which what is written stays."""
    for entry in ("zoo", "export", "examples", "hubconf.py"):
        (tmp_path / entry).symlink_to(ROOT / entry)
    monkeypatch.chdir(tmp_path)
    return tmp_path
