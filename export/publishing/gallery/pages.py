"""The pages of a gallery: HTML from the templates in `web/`, with every fact escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from zoo import __version__

from .runtime import VERSION as RUNTIME

WEB = Path(__file__).parent / "web"
TEMPLATES = ("frame.html", "index.html", "model.html", "attention.html")
ROWS = {
    "float32": "float32",
    "float16": "float16",
    "int8": "int8, dynamic",
    "int8-static": "int8, static",
}
_ANSWERS = (
    '<li><span class="label">—</span><span class="share"></span><span class="bar"></span></li>'
)


@dataclass(frozen=True)
class Page:
    """What the gallery says of a model, beside model.json.

    Args:
        slug: name of its folder.
        name, about: as headings say it.
        chips: short facts, as "310,150 parameters".
        recorded: parity as the export measured it, in words.
        card: address of its model card, from its folder, or "".
        reference: what a reader would pass to `zoo.create_model`, or "".
        picture: width and height of picture.png, and what it shows.
        webgpu_bytes: of the runtime that WebGPU takes.
        int8: what int8 files lose in accuracy, in words, or "".
    """

    slug: str
    name: str
    about: str
    chips: tuple[str, ...]
    recorded: str
    card: str
    reference: str
    picture: tuple[int, int, str]
    webgpu_bytes: int
    int8: str


def megabytes(size: int) -> str:
    """As "4.2 MB"."""
    return f"{size / 1e6:.1f} MB"


def _fill(template: str, **values: str) -> str:
    return Template((WEB / template).read_text(encoding="utf-8")).substitute(values)


def _breakable(name: str) -> str:
    """A name that a narrow screen breaks at its dots and underscores."""
    return re.sub(r"([._])", r"\1<wbr>", escape(name))


def _frame(pages: Sequence[Page], current: str, root: str, docs: str, **values: str) -> str:
    mark = {current: ' aria-current="page"'}
    items = [
        f'<li><a href="{root}models/{page.slug}/index.html"{mark.get(page.slug, "")}>'
        f"{escape(page.name)}</a></li>"
        for page in pages
    ]
    more = f' <a href="{root}{escape(docs)}">Documentation</a>' if docs else ""
    return _fill(
        "frame.html", root=root, menu="".join(items), version=__version__, runtime=RUNTIME,
        docs=more, **values,
    )  # fmt: skip


def index_page(pages: Sequence[Page], docs: str = "") -> str:
    """The page that shows all models. docs: address of documentation, from this page."""
    count = len(pages)
    heading = (
        "Convolution meets self-attention, in your browser"
        if count > 1
        else f"{escape(pages[0].name)}, in your browser"
    )
    body = _fill("index.html", heading=heading, cards="\n".join(map(_index_card, pages)))
    return _frame(
        pages, "", "", docs, title="ConvAttn Zoo: models that run, and are proven, in your browser",
        description="Vision models that run in the browser, each compared with its float64 "
        "reference there.", head="", body=body,
    )  # fmt: skip


def _index_card(page: Page) -> str:
    width, height, shows = page.picture
    chips = "".join(f"<li>{escape(chip)}</li>" for chip in page.chips[:3])
    return (
        f'<li><a href="models/{page.slug}/index.html">'
        f'<img src="models/{page.slug}/picture.png" width="{width}" height="{height}" '
        f'alt="{escape(shows)}"><div class="text"><h2>{_breakable(page.name)}</h2>'
        f'<p>{escape(page.about)}</p><ul class="facts">{chips}</ul></div></a></li>'
    )


def model_page(page: Page, pages: Sequence[Page], facts: Mapping[str, Any], docs: str = "") -> str:
    """The page of one model. facts: the content of its model.json."""
    body = _fill(
        "model.html",
        name=_breakable(page.name),
        lead=escape(page.about),
        facts="".join(f"<li>{escape(chip)}</li>" for chip in page.chips),
        links=_links(page, facts),
        load=megabytes(facts["first_load_bytes"]),
        recorded=escape(page.recorded),
        samples=_samples(facts["samples"]),
        answers=_ANSWERS * min(5, facts["num_classes"]),
        attention=_attention(facts["attention"]),
        runs="".join(_run_rows(facts, page.webgpu_bytes)),
        all_load=megabytes(_rest(facts) + page.webgpu_bytes),
        int8=escape(page.int8),
        code=escape(_code(page)),
    )
    return _frame(
        pages, page.slug, "../../", docs, title=f"{escape(page.name)} · ConvAttn Zoo",
        description=f"{escape(page.name)} in your browser, compared with its float64 reference.",
        head='<script type="module" src="../../assets/model.mjs"></script>', body=body,
    )  # fmt: skip


def card_page(page: Page, pages: Sequence[Page], content: str, docs: str = "") -> str:
    """The page of a model card. content: HTML, as `card_html` makes it."""
    crumb = f'<p class="crumb"><a href="index.html">{_breakable(page.name)}</a></p>'
    return _frame(
        pages, page.slug, "../../", docs, title=f"Model card of {escape(page.name)} · ConvAttn Zoo",
        description=f"The model card of {escape(page.name)}.", head="",
        body=f'{crumb}<article class="panel card">{content}</article>',
    )  # fmt: skip


def _rest(facts: Mapping[str, Any]) -> int:
    return sum(file["bytes"] for name, file in facts["files"].items() if name != "float32")


def _links(page: Page, facts: Mapping[str, Any]) -> str:
    file = facts["files"]["float32"]
    links = [
        *([(page.card, "Model card")] if page.card else []),
        (file["file"], f"ONNX file ({megabytes(file['bytes'])})"),
        ("parity.json", "parity.json"),
    ]
    return "".join(f'<a href="{href}">{escape(text)}</a>' for href, text in links)


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    if not samples:
        return ""
    buttons = "".join(
        f'<li><button type="button" aria-pressed="false" title="{escape(sample["alt"])}">'
        f'<img src="{sample["file"]}" width="44" height="44" alt="{escape(sample["alt"])}">'
        "</button></li>"
        for sample in samples
    )
    return f'<div class="samples"><p>Or one of these:</p><ul>{buttons}</ul></div>'


def _attention(attention: Mapping[str, Any] | None) -> str:
    if attention is None:
        return ""
    layers = attention["layers"]
    options = "".join(
        f'<option value="{number}">{escape(layer["name"])} ({layer["heads"]} heads)</option>'
        for number, layer in enumerate(layers)
    )
    head = (
        '<li><canvas width="320" height="320" role="img" aria-label="Not drawn yet"></canvas>'
        '<span class="name">Head</span><span class="peak"></span>'
        '<span class="gate"{}><span class="value"></span><span class="bar"></span></span></li>'
    )
    gated = any(layer["gates"] for layer in layers)
    gates = (
        " The gate of a head says what it goes by: 1 is position only, 0 is content only."
        if gated
        else ""
    )
    heads = head.format("" if layers[0]["gates"] else " hidden") * layers[0]["heads"]
    return _fill("attention.html", gates=gates, layers=options, heads=heads)


def _run_rows(facts: Mapping[str, Any], webgpu_bytes: int) -> list[str]:
    files = facts["files"]
    wanted = [("wasm", name) for name in ROWS if name in files]
    wanted += [("webgpu", name) for name in ("float32", "float16") if name in files]
    rows, loaded = [], False
    for backend, name in wanted:
        first = backend == "wasm" and name == "float32"
        size = files[name]["bytes"] if backend == "wasm" else 0
        if backend == "webgpu" and not loaded:
            size, loaded = webgpu_bytes, True
        rows.append(_run_row(backend, name, size, first))
    return rows


def _run_row(backend: str, name: str, size: int, first: bool) -> str:
    title = f"{'WebAssembly' if backend == 'wasm' else 'WebGPU'}, {ROWS[name]}"
    cells = [
        ("", "Download", "loaded above" if first or not size else megabytes(size)),
        ("worst", "Difference", "—"),
        ("limit", "Allowed", "—"),
        ("same", "Same answer", "—"),
        ("time", "Per image", "—"),
    ]
    shown = "".join(
        f'<td role="cell" class="{kind}" data-label="{label}">{text}</td>'.replace(' class=""', "")
        for kind, label, text in cells
    )
    state = "" if first else f'<button type="button" disabled aria-label="Run {title}">Run</button>'
    return (
        f'<tr role="row" data-backend="{backend}" data-precision="{name}" data-state="waiting">'
        f'<th role="rowheader" scope="row">{title}</th>{shown}'
        f'<td role="cell" class="state">{state}</td></tr>'
    )


def _code(page: Page) -> str:
    load = (
        f'model = zoo.create_model("{page.reference}", pretrained=True).eval()'
        if page.reference
        else 'model = zoo.create_model("FOLDER", pretrained=True).eval()  # the export of this page'
    )
    return (
        f"import zoo\n\n{load}\npredict = zoo.Predictor.from_model(model)\n"
        'print(predict("photo.png").to_dict())'
    )
