#!/usr/bin/env python3
"""The documentation site: the repository's pages, a table of models, the API, and the gallery.

    .venv/bin/python site/build.py [--out build/site] [--without-gallery]

Pages keep their places (docs/, model_cards/, CHANGELOG.md), so their links hold as they are; links
to files that are no pages lead nowhere on a site and become plain text. Any warning of Zensical
ends the build.
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PAGES = ROOT / "build" / "site-pages"
_SINGLE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "THIRD_PARTY.md")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^()\s]+)\)")


def gather(pages: Path = PAGES) -> None:
    """Copy every page and picture to `pages`, and write those that are made from the code."""
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for folder in ("docs", "model_cards"):
        shutil.copytree(
            ROOT / folder, pages / folder, ignore=shutil.ignore_patterns("measured", "eval_results")
        )
    for name in _SINGLE:
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, pages / name)
    shutil.copy2(ROOT / "README.md", pages / "index.md")
    for source in (ROOT / "site").glob("pages/*"):
        shutil.copy2(source, pages / source.name)
    (pages / "models.md").write_text(models_page(), encoding="utf-8")
    (pages / "api").mkdir()
    for name, text in api_pages():
        (pages / "api" / f"{name}.md").write_text(text, encoding="utf-8")
    for page in pages.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(_without_dead_links(text, page.parent, pages), encoding="utf-8")


def _without_dead_links(text: str, folder: Path, pages: Path) -> str:
    """The text with links to what is not on the site (code, licence, measured files) as plain text.

    A link that is broken in the repository stays, so that the strict build names it.
    """

    def kept(match: re.Match[str]) -> str:
        words, target = match[1], match[2].partition("#")[0]
        if (target == "README.md" and folder == pages) or target.endswith("../README.md"):
            on_site = (folder / target).resolve().parent
            return match[0] if on_site != pages else f"[{words}]({_up(folder, pages)}index.md)"
        if not target or ":" in target or (folder / target).is_file():
            return match[0]
        original = ROOT / folder.relative_to(pages) / target
        return words if original.exists() else match[0]

    return _LINK.sub(kept, text)


def _up(folder: Path, pages: Path) -> str:
    return "../" * len(folder.relative_to(pages).parts)


def models_page() -> str:
    """Every registered model in one table, which a field above it narrows."""
    import zoo
    from zoo.catalog.tables import read_costs

    costs = read_costs()
    lines = [
        "---\nhide:\n  - toc\n---",  # the table takes the room
        "",
        "# Models",
        "",
        f"{len(costs)} architectures of {len(zoo.list_families())} families, from the registry. "
        "Weights in brackets are published elsewhere and come by `convattn import`.",
        "",
        '<input id="find-model" type="search" placeholder="Find: convit, digits, 32x32 ..." '
        'aria-label="Find a model" hidden>',
        '<p id="found-models" role="status"></p>',
        "",
        "| model | parameters | MACs | input | weights | what it is |",
        "|---|--:|--:|---|---|---|",
    ]
    return "\n".join([*lines, *_model_rows(costs)]) + "\n"


def _model_rows(costs: dict[str, dict[str, int]]) -> Iterator[str]:
    import zoo
    from zoo.catalog.tables import count

    loadable = set(zoo.list_models(pretrained=True, with_tags=True))
    for name in zoo.list_models():
        record = zoo.get_record(name)
        tags = sorted({weights.tag for weights in record.weights})
        weights = ", ".join(_weights(name, tag, f"{name}.{tag}" in loadable) for tag in tags)
        height, width = record.input.size
        about = html.escape(record.description).replace("|", "\\|")
        yield (
            f"| `{name}` | {count(costs[name]['params'])} | {count(costs[name]['macs'])} "
            f"| {height}x{width} | {weights or '-'} | {about} |"
        )


def _weights(name: str, tag: str, loadable: bool) -> str:
    card = f"model_cards/{name}.{tag}.md"
    if not loadable:
        return f"({tag})"
    return f"[{tag}]({card})" if (ROOT / card).exists() else tag


def api_pages() -> Iterator[tuple[str, str]]:
    """A page per public package: each public name, from its docstring."""
    import export
    import zoo
    import zoo.analysis

    for name, package in (("zoo", zoo), ("analysis", zoo.analysis), ("export", export)):
        names = [n for n in package.__all__ if not n.startswith("__") and n != "analysis"]
        entries = "\n\n".join(f"::: {package.__name__}.{n}" for n in names)
        yield name, f"# {package.__name__}\n\n{_first_sentence(package)}\n\n{entries}\n"


def _first_sentence(package: object) -> str:
    return (package.__doc__ or "").strip().split("\n\n")[0]


def build(out: Path, gallery: bool) -> None:
    """Write the site to `out`, replacing what is there. Raises: CalledProcessError."""
    tool = Path(sys.executable).with_name("zensical")
    config = ROOT / "mkdocs.yml"
    gather()
    subprocess.run([tool, "build", "--strict", "--clean", "-f", config], check=True, cwd=ROOT)
    built = ROOT / "build" / "site"
    if out.resolve() != built:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(built, out)
    if gallery:
        _write_gallery(out / "gallery")


def _write_gallery(out: Path) -> None:
    import zoo
    from export.publishing.gallery import write_gallery

    records = {
        name: zoo.get_record(name).selected
        for name in zoo.list_models(pretrained=True, with_tags=True)
    }
    bundled = [name for name, weights in records.items() if weights and weights.bundled]
    write_gallery(
        bundled, out, smallest=True, docs="../index.html", cards="../model_cards/",
        on_model=lambda name: print(f"gallery: {name}", flush=True),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--without-gallery", action="store_true")
    chosen = parser.parse_args()
    build(chosen.out, not chosen.without_gallery)
    print(f"python -m http.server -d {chosen.out}")


if __name__ == "__main__":
    main()
