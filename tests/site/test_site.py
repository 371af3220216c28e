"""The documentation site: gathered from the repository, built strictly, complete."""

from __future__ import annotations

import html.parser
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import export
import zoo

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_build", ROOT / "site" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site without its gallery; any warning of the builder ends here."""
    out = tmp_path_factory.mktemp("site") / "out"
    builder.build(out, gallery=False)
    return out


class Page(html.parser.HTMLParser):
    """Links and addresses of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value and tag != "link":
                self.addresses.append(value)
            if name == "id" and value:
                self.names.add(value)


def test_every_link_of_the_site_leads_to_a_page_of_it(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 50
    broken = []
    for path, page in pages.items():
        for address in page.addresses:
            target, _, anchor = address.partition("#")
            if re.match(r"[a-z]+:", target) or "gallery/index.html" in target:
                continue
            found = (path.parent / target).resolve() if target else path
            if not found.is_file() or (anchor and anchor not in pages[found].names):
                broken.append(f"{path.relative_to(site)}: {address}")
    assert not broken


def test_every_page_of_the_docs_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f" {page}\n" not in navigation] == []


def test_the_table_of_models_has_every_architecture_with_its_cards(site: Path) -> None:
    text = (site / "models.html").read_text(encoding="utf-8")
    assert all(f"<code>{name}</code>" in text for name in zoo.list_models())
    assert 'href="model_cards/convit_nano.digits.html"' in text


@pytest.mark.parametrize(("page", "package"), [("zoo", zoo), ("export", export)])
def test_the_api_shows_every_public_name_with_its_docstring(
    site: Path, page: str, package: ModuleType
) -> None:
    found = Page(site / "api" / f"{page}.html").names
    names = [name for name in package.__all__ if not name.startswith("_") and name != "analysis"]
    assert [name for name in names if f"{page}.{name}" not in found] == []


def test_no_page_asks_another_site_for_anything(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"?(https?:[^\"\s>]+)", text)
        assert loaded == [], path


def test_a_broken_link_of_the_repository_is_kept_for_the_strict_build(
    builder: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    text = "[code](../zoo/errors.py) [gone](gone.md) ![picture](gone.png) [there](https://a.b)"
    kept = builder._without_dead_links(text, tmp_path / "docs", tmp_path)
    assert kept == "code [gone](gone.md) ![picture](gone.png) [there](https://a.b)"
