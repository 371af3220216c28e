"""A card put together, and the folder of all cards: NAME.md, images/NAME/, eval_results/NAME/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo import __version__
from zoo.catalog.registry import list_models
from zoo.files.local import write_text

from .facts import CardFacts, facts_of
from .figures import Picture, draw_pictures, read_pictures
from .metadata import eval_results, front_matter
from .results import calibration_section, metrics_section, parity_section, speed_section
from .sections import about, architecture, citation, contact, intended_use, licence, training
from .usage import usage

IMAGES = "images"
EVAL_RESULTS = "eval_results"


def render(facts: CardFacts, pictures: Sequence[Picture] = (), folder: str = IMAGES) -> str:
    """The whole card, Markdown with the Hub's metadata.

    Args:
        pictures: that exist, see `card_figures`.
        folder: where they lie, relative to the card.
    Raises: ConfigError (codes "card", "citation", "measured").
    """
    verb = "bundle" if facts.repo else "card"
    parts = [
        front_matter(facts),
        f"# {facts.name}",
        about(facts),
        _section("Architecture", architecture(facts), "architecture", pictures, folder),
        _section("Use", usage(facts)),
        _section("Intended use and limits", intended_use(facts)),
        _section("Training", training(facts), "training", pictures, folder),
        _section("Metrics", metrics_section(facts), "metrics", pictures, folder),
        _section("Calibration", calibration_section(facts), "calibration", pictures, folder),
        _section("Inside", "", "inside", pictures, folder),
        _section("Parity", parity_section(facts)),
        _section("Speed", speed_section(facts)),
        _section("Licence", licence(facts)),
        _section("Contact", contact(facts)),
        _section("Citation", citation(facts)),
        f"Written by `convattn {verb}`, convattn-zoo {__version__}; not edited by hand.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(
    title: str, text: str, key: str = "", pictures: Sequence[Picture] = (), folder: str = ""
) -> str:
    """A section with its pictures; nothing if it has neither."""
    shown = [f"![{p.caption}]({folder}/{p.file})" for p in pictures if key and p.section == key]
    return "\n\n".join([f"## {title}", *filter(None, [text]), *shown]) if text or shown else ""


def cards() -> list[str]:
    """Names of all weights that load without an import: each has a card."""
    return list_models(pretrained=True, with_tags=True)


def stored_card(name: str, measured: str | Path, out: str | Path) -> str:
    """The card of a record with the pictures that lie in ``out/images/NAME``. Nothing is drawn."""
    facts = facts_of(name, measured)
    pictures = read_pictures(Path(out) / IMAGES / facts.name, facts)
    return render(facts, pictures, f"{IMAGES}/{facts.name}")


def write_card(name: str, measured: str | Path, out: str | Path) -> tuple[Path, ...]:
    """Draw the pictures of a record's card and write it. Returns: the files, the card first.

    Weights that lie in the package are loaded for the pictures; of those on the Hub the
    architecture alone is drawn.

    Raises: see `facts_of`, `draw_pictures`, `render`; ResourceError.
    """
    from zoo.factory.create import create_model

    facts, out = facts_of(name, measured), Path(out)
    weights = facts.record.selected if facts.record else None
    bundled = bool(weights and weights.bundled)
    overrides = {} if bundled else dict(facts.cfg.model_args)
    model = create_model(name if bundled else facts.cfg.architecture, bundled, **overrides).eval()
    folder = out / IMAGES / facts.name
    pictures = draw_pictures(facts, folder, model, trained=bundled)
    text = render(facts, pictures, f"{IMAGES}/{facts.name}")
    written = [out / f"{facts.name}.md"]
    write_text(written[0], text)
    results = out / EVAL_RESULTS / facts.name
    found = eval_results(facts)
    for file, content in found.items():
        write_text(results / file, content)
        written.append(results / file)
    for path in results.glob("*.yaml"):
        if path.name not in found:
            path.unlink()
    return (*written, *(folder / picture.file for picture in pictures))
