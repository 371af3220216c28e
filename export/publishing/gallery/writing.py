"""Write a gallery: a static folder in which every model runs, and is proven, in a browser."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo import get_record
from zoo.catalog.references import kind_of
from zoo.catalog.tables import find_data_set, list_name, read_costs, sample_images
from zoo.data.image_listing import list_sources
from zoo.errors import ConfigError, UnknownModelError
from zoo.files.json_text import to_json
from zoo.files.staging import staged_directory

from ...parity.report import ParityReport, read_report
from .card import card_html, read_card
from .collecting import ATTENTION, VECTORS, Collected, collect
from .facts import PREPROCESS, model_facts, read_samples, write_preprocessing
from .pages import TEMPLATES, WEB, Page, card_page, index_page, model_page
from .picture import SIZE, write_picture
from .runtime import VERSION, WEBGPU, runtime_files

CARD_PAGE = "card.html"  # of a directory that has a card
MARK = "convattn-gallery"  # in the README of every gallery: what may be replaced
_SPACE = """---
title: ConvAttn Zoo
emoji: 🔬
colorFrom: indigo
colorTo: yellow
sdk: static
app_file: index.html
pinned: false
license: apache-2.0
---

# {title}

A static page: {count}, run by onnxruntime-web {version} in the visitor's own browser, each
compared there with its float64 reference. Serve the folder from any path; nothing is computed on
a server. Written by `convattn gallery` (convattn-gallery).
"""


@dataclass(frozen=True)
class Gallery:
    """What `write_gallery` wrote: where, and per model the bytes of its first load."""

    directory: Path
    first_load_bytes: Mapping[str, int]


def write_gallery(
    references: Sequence[str],
    out: str | Path,
    *,
    samples: str | Path | None = None,
    runtime: str | Path | None = None,
    smallest: bool = False,
    docs: str = "",
    cards: str = "",
    on_model: Callable[[str], None] = lambda name: None,
) -> Gallery:
    """Write a folder to serve from any path, as GitHub Pages or a static Space.

    Args:
        references: models: names, or directories that `train` or `export` wrote.
        out: a new or empty directory, or an earlier gallery, which is replaced as a whole.
        samples: an image, or a folder of them (ten are taken) to offer; None offers the images
            that ship with the package to models of their classes, and nothing to others.
        runtime: the tarball of onnxruntime-web; None fetches it through npm once.
        smallest: pack the runtime as small as it gets: see `runtime_files`.
        docs: address of documentation, relative to `out`, that every page links to.
        cards: address of a folder, relative to `out`, with the card NAME.html of every model that
            is given by its name. A directory shows its own README.md as a page.
        on_model: told the name of every model when its work begins.
    Raises: ConfigError, ImageError, NotFoundError, and the errors of `runtime_files` and `collect`.
    """
    if not references:
        raise ConfigError("a gallery needs at least one model; name some", code="no_models")
    paths = [Path(p) for p in list_sources([str(samples)])[0]] if samples else None
    place = _checked(Path(out).absolute())
    own = runtime_files(Path(runtime) if runtime else None, smallest)
    with staged_directory(place, replace=True, keep=False) as folder:
        loads = _write(folder, references, own, paths, docs, cards, on_model)
    return Gallery(Path(out), loads)


def _checked(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{str(out)!r} is a file; --out names a directory", code="out")
    readme = out / "README.md"
    ours = readme.is_file() and MARK in readme.read_text(encoding="utf-8", errors="replace")
    if out.is_dir() and any(out.iterdir()) and not ours:
        text = f"{str(out)!r} holds other files; choose an empty or a new directory"
        raise ConfigError(text, code="out")
    return out


def _write(
    folder: Path,
    references: Sequence[str],
    runtime: Mapping[str, bytes],
    samples: Sequence[Path] | None,
    docs: str,
    cards: str,
    on_model: Callable[[str], None],
) -> dict[str, int]:
    first = _write_assets(folder, runtime)
    pages: dict[str, tuple[Page, dict[str, Any], str]] = {}
    for reference in references:
        on_model(reference)
        by_name = kind_of(reference) == "name"
        card = "" if by_name else read_card(Path(reference))
        page, facts = _write_model(folder, reference, runtime, samples, first, set(pages))
        published = f"../../{cards}{page.name}.html" if cards and by_name else ""
        address = CARD_PAGE if card else published
        pages[page.slug] = replace(page, card=address), facts, card
    listed = [page for page, _, _ in pages.values()]
    for page, facts, card in pages.values():
        place = folder / "models" / page.slug
        text = model_page(page, listed, facts, docs)
        (place / "index.html").write_text(text, encoding="utf-8")
        if card:
            text = card_page(page, listed, card_html(card), docs)
            (place / CARD_PAGE).write_text(text, encoding="utf-8")
    (folder / "index.html").write_text(index_page(listed, docs), encoding="utf-8")
    (folder / ".nojekyll").touch()  # GitHub Pages then serves the files as they are
    count = f"{len(listed)} models" if len(listed) > 1 else listed[0].name
    text = _SPACE.format(title="ConvAttn Zoo", count=count, version=VERSION)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return {page.name: facts["first_load_bytes"] for page, facts, _ in pages.values()}


def _write_assets(folder: Path, runtime: Mapping[str, bytes]) -> int:
    """Returns: bytes of what every model page loads of them."""
    assets = folder / "assets"
    (assets / "ort").mkdir(parents=True)
    for name, data in runtime.items():
        (assets / "ort" / name).write_bytes(data)
    own = [path for path in sorted(WEB.iterdir()) if path.name not in TEMPLATES and path.is_file()]
    for path in own:
        shutil.copyfile(path, assets / path.name)
    webgpu = {WEBGPU[0], f"{WEBGPU[1]}.gz", "LICENSE.txt"}
    first = sum(len(data) for name, data in runtime.items() if name not in webgpu)
    return first + sum(path.stat().st_size for path in own)


def _write_model(
    folder: Path,
    reference: str,
    runtime: Mapping[str, bytes],
    samples: Sequence[Path] | None,
    first: int,
    taken: set[str],
) -> tuple[Page, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as work:
        collected = collect(reference, Path(work))
        slug = _slug(collected.cfg.name, taken)
        place = folder / "models" / slug
        _copy(collected, place)
        labels = collected.cfg.labels
        if samples is None:
            offered = read_samples(sample_images(list_name(labels)), labels)
        else:
            offered = read_samples(samples)
        for sample in offered:
            (place / sample.file).parent.mkdir(exist_ok=True)
            sample.image.save(place / sample.file)
        write_preprocessing(collected, place / PREPROCESS)
        facts = model_facts(collected, place, offered, first)
        text = to_json(facts, ensure_ascii=False)
        (place / "model.json").write_text(text + "\n", encoding="utf-8")
        image = offered[len(taken) % len(offered)].image if offered else None
        shows = write_picture(collected, image, place / "picture.png")
        gpu = sum(len(data) for name, data in runtime.items() if name.startswith(WEBGPU))
        page = _page(slug, collected, place, reference, (*SIZE, shows), gpu)
    return page, facts


def _slug(name: str, taken: set[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"
    number = next(n for n in range(1, 10_000) if (plain if n == 1 else f"{plain}-{n}") not in taken)
    return plain if number == 1 else f"{plain}-{number}"


def _copy(collected: Collected, place: Path) -> None:
    source = collected.folder
    names = [*collected.files.values(), "parity.json"]
    names += [f"test_data_set_0/{name}" for name in VECTORS]
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, place / name)
    if collected.attention is not None:
        shutil.copyfile(collected.attention, place / ATTENTION)


def _page(
    slug: str,
    collected: Collected,
    place: Path,
    reference: str,
    picture: tuple[int, int, str],
    webgpu_bytes: int,
) -> Page:
    cfg = collected.cfg
    report = read_report(place / "parity.json")
    try:
        record = get_record(cfg.architecture)
    except UnknownModelError:
        record = None
    own = sum(p.numel() for p in collected.model.parameters())
    macs = read_costs().get(cfg.architecture, {}).get("macs", 0) if not cfg.model_args else 0
    height, width = cfg.input.size
    known = find_data_set(cfg.labels)
    chips = (
        f"{own:,} parameters",
        f"{width} × {height} pixels",
        f"{cfg.num_classes} classes" + (f": {known.title}" if known else ""),
        *([f"{macs / 1e6:.1f} million MACs"] if macs else []),
        *([f"version {cfg.version}"] if cfg.version else []),
        *([f"weights {cfg.licence}"] if cfg.licence else []),
        *([f"SHA-256 {cfg.sha256[:12]}…"] if cfg.sha256 else []),
    )
    about = _sentence(record.family.summary if record else f"{cfg.architecture}, built by timm")
    by_name = kind_of(reference) == "name"
    return Page(
        slug, cfg.name, about, chips, _recorded(report), "", reference if by_name else "",
        picture, webgpu_bytes, _int8(report),
    )  # fmt: skip


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _recorded(report: ParityReport) -> str:
    rows = [row for row in report.rows if row.file == "onnx/model.onnx"]
    worst = max(rows, key=lambda row: row.max_abs_error / (row.limit or 1.0))
    return (
        f"{worst.provider}, batches {', '.join(str(b) for b in sorted({r.batch for r in rows}))}: "
        f"largest difference {worst.max_abs_error:.1e}, allowed {worst.limit:.1e}."
    )


def _int8(report: ParityReport) -> str:
    """What the export measured on labelled images, as an apposition."""
    parts = []
    for file, notes in report.attestation.items():
        found = notes.get("accuracy") if isinstance(notes, dict) else None
        if found and found.get("top1_loss_points") is not None:
            parts.append(f"{file} lost {found['top1_loss_points']:.2f} points on {found['data']}")
    return f" ({'; '.join(parts)})" if parts else ""
