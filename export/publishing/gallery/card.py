"""A model card as a part of a page: what its author wrote in Markdown, as HTML."""

from __future__ import annotations

from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from zoo.catalog.regular_files import read_regular_file

from ..names import CARD

_SCROLLED = {  # what may be wider than a phone, reachable by keyboard
    "pre": '<pre tabindex="0">',
    "table": '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>',
}
_LIMIT = 2**20  # bytes; cards have some thousands


def read_card(folder: Path) -> str:
    """The card of a bundle or a training run, without its front matter; "" where there is none.

    Raises: ResourceError for a file that cannot be read, WeightsFileError for one of over 1 MiB.
    """
    if not (folder / CARD).is_file():
        return ""
    data = read_regular_file(folder / CARD, "model card", _LIMIT)
    text = data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    head, mark, body = text.partition("\n---\n")
    return body if head.startswith("---\n") and mark else text


def card_html(text: str) -> str:
    """Markdown as HTML. What is HTML in it is shown as text; pictures and links to files beside the
    card, which a gallery does not have, become their words."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token in tokens:
        if token.children:
            token.children = _self_contained(token.children)
    html = str(markdown.renderer.render(tokens, markdown.options, {}))
    for wide, begin in _SCROLLED.items():
        html = html.replace(f"<{wide}>", begin)
    return html.replace("</table>", "</table></div>")


def _self_contained(tokens: list[Token]) -> list[Token]:
    kept, open_links = [], []
    for token in tokens:
        if token.type == "image":
            words = Token("text", "", 0)
            words.content = token.content
            kept.append(words)
            continue
        if token.type == "link_open":
            open_links.append(str(token.attrs["href"]).startswith(("https://", "http://")))
        if token.type in ("link_open", "link_close"):
            absolute = open_links[-1] if token.type == "link_open" else open_links.pop()
            if not absolute:
                continue
        kept.append(token)
    return kept
