"""Pages for readers: every link leads somewhere, every dotted name of ours exists, in docstrings
too, no line of prose is wider than 120 characters.
"""

from __future__ import annotations

import importlib
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "model_cards").glob("*.md")),
]
_LINK = re.compile(
    r"!?\[[^\]]*\]\(([^()\s]+)\)|^\[[^\]]+\]:\s+(\S+)|(?:src|href)=\"([^\"]+)\"", re.M
)


def _without_blocks(text: str) -> str:
    """The text with empty lines where it shows code or what a command printed."""
    return re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)


def prose(text: str) -> str:
    """The text without blocks and spans of code, of as many lines."""
    return re.sub(r"`[^`\n]+`", "code", _without_blocks(text))


def anchors(text: str) -> set[str]:
    """GitHub's anchors of the headings."""
    headings = re.findall(r"^#+ +(.*)$", text, flags=re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def broken_links(page: Path) -> list[str]:
    """Relative links of a page whose file or heading does not exist."""
    found = []
    for groups in _LINK.findall(prose(page.read_text(encoding="utf-8"))):
        link = next(filter(None, groups))
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


_NAME = re.compile(r"(?<![\w./-])(?:zoo|export|benchmarks)(?:\.[a-zA-Z_]\w*)+(?![\w/])")
# pieces of f-strings, where Python makes tokens of their own of them
_PIECES = [n for n, name in tokenize.tok_name.items() if name.endswith("STRING_MIDDLE")]
_FILES = ("py", "md", "json", "jsonl", "toml", "png", "onnx")


def unknown_names(text: str) -> list[str]:
    """Dotted names of our packages that nothing has; `zoo.analysis.NAME` stands for any."""
    found = []
    for name in dict.fromkeys(_NAME.findall(text)):
        first, *rest = name.split(".")
        if rest[-1] in _FILES or rest[-1].isupper():
            continue
        value, path = importlib.import_module(first), first
        for word in rest:
            path = f"{path}.{word}"
            try:
                value = (
                    getattr(value, word) if hasattr(value, word) else importlib.import_module(path)
                )
            except ModuleNotFoundError:
                found.append(name)
                break
    return found


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "CHANGELOG.md"],  # which tells of names that are gone
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_names_of_ours_exist(page: Path) -> None:
    assert unknown_names(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("package", ["zoo", "export", "benchmarks", "examples"])
def test_names_of_ours_in_docstrings_and_messages_exist(package: str) -> None:
    wrong = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        said = [
            token.string
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type in (tokenize.STRING, tokenize.COMMENT, *_PIECES)
        ]
        names = unknown_names("\n".join(said))
        if names:
            wrong[str(path.relative_to(ROOT))] = names
    assert wrong == {}


def test_an_unknown_name_is_found() -> None:
    text = "`zoo.create_model`, `zoo.analysis.NAME`, zoo.cli, torch.export.load, `export.gone()`"
    assert unknown_names(text) == ["export.gone"]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Here\n[a](gone.md) [b](#here) [c](#there) `[d](code.md)`\n[1]: gone.png\n")
    assert broken_links(page) == ["gone.md", "#there", "gone.png"]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_the_index_or_a_page_of_its_folder_leads_to_every_page(page: Path) -> None:
    if page.name == "README.md":
        return
    index = (page.parent / "README.md").read_text(encoding="utf-8")
    assert f"({page.name})" in index


# tables of these pages still have cells that are sentences
WIDE_TABLES = ("THIRD_PARTY.md", "scale.md")


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if p.parent.name != "model_cards" or p.name == "README.md"],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_no_line_is_wider_than_120_characters(page: Path) -> None:
    """Rows of tables too; addresses of links, and what a program printed, do not count."""
    text = re.sub(r"\]\([^()\s]+\)", "]()", _without_blocks(page.read_text(encoding="utf-8")))
    wide = [n for n, line in enumerate(text.splitlines(), 1) if len(line) > 120]
    if page.name in WIDE_TABLES:
        wide = [n for n in wide if not text.splitlines()[n - 1].startswith("|")]
    assert wide == [], "shorten a cell, or make a list of the table"


def test_the_readme_is_read_in_half_a_minute() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme) <= 7168
    assert len(readme.splitlines()) <= 140


REFERENCE = [p for p in (ROOT / "docs").glob("*.md") if p.name not in ("README.md", "faq.md")]


@pytest.mark.parametrize("page", REFERENCE, ids=lambda page: page.name)
def test_a_reference_page_says_first_what_it_is_about(page: Path) -> None:
    """Title, then at most a dozen lines "in short"."""
    title, short, *_ = page.read_text(encoding="utf-8").split("\n\n")
    assert title.startswith("# ")
    assert short.startswith("**In short.** ")
    assert len(short.splitlines()) <= 12
