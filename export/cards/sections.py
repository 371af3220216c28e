"""The sentences of a card: what it is, how it is built and trained, what it is for, whose it is."""

from __future__ import annotations

from typing import Any

from zoo.catalog.citations import bibtex_of, lineage_of
from zoo.files import card_text

from .facts import CardFacts
from .metadata import measured_metrics_of, plain, split_of
from .own_run import OwnRun
from .results import seeds_table, where

NOT_STATED = "Not stated."
_UNSET: tuple[Any, ...] = ("", None, 0, 0.0, False, [], ())
_NOT_SETTINGS = ("name", "source", "seed")
# fields of a recipe that take no part: field that decides, its value -> these
_IDLE: dict[tuple[str, Any], tuple[str, ...]] = {
    ("pipeline", "memory"): (
        "crop", "interpolation", "flip", "color_jitter", "rand_augment", "erase", "erase_mode",
    ),
    ("pipeline", "stream"): ("rotate_degrees", "shift", "scale"),
    ("schedule", "cosine"): ("milestones", "step_factor"),
    ("schedule", "steps"): ("min_lr",),
    ("erase", 0.0): ("erase_mode",),
    ("repeats", 1): ("repeats",),
    ("validate_every", 1): ("validate_every",),
}  # fmt: skip


def about(facts: CardFacts) -> str:
    """Three sentences: what it is, what these weights are, how good and by whom measured."""
    cfg, record = facts.cfg, facts.record
    if record is None:
        what = f"`{cfg.timm_name}`, an architecture of timm."
    else:
        kind = record.family.summary
        own = record.description
        size = f" ({own})" if own != kind else ""
        what = f"`{cfg.architecture}`{size} is a {kind}, after {record.family.paper}."
    return f"{what} {_weights(facts)} {_goodness(facts)}"


def _weights(facts: CardFacts) -> str:
    cfg, record = facts.cfg, facts.record
    spec = cfg.input
    image = f"{spec.in_chans} x {spec.size[0]} x {spec.size[1]}"
    weights = record.selected if record else None
    trained = f", trained on {weights.dataset}," if weights and weights.dataset else ""
    if facts.run is not None:
        how = f"fine-tuned from `{facts.run.start}`" if facts.run.start else "trained"
        count = facts.run.metrics["training_images"]
        trained = f", {how} on {count:,} images of {plain(facts.run.data)},"
    version = f" (version {cfg.version})" if cfg.version else ""
    what = f"sort images of {image} into {cfg.num_classes} classes"
    if not cfg.num_classes:
        what = f"turn images of {image} into features; they have no classifier"
    return f"These weights{version}{trained} {what}."


def _goodness(facts: CardFacts) -> str:
    own = [m for m in measured_metrics_of(facts) if m.name == "acc1_percent"]
    if own:
        best = next((m for m in own if split_of(m.dataset) == "test"), own[-1])
        found = (facts.accuracy or {}).get("results", {}).get(best.dataset)
        interval = ""
        if found:
            low, high = found["interval95_percent"]
            interval = f" (95 %: {low:.1f} to {high:.1f})"
        return f"We measured {best.value:.1f} %{interval} top-1 accuracy on {plain(best.dataset)}."
    if facts.published:
        last = facts.published[-1]
        best = next((m for m in reversed(facts.published) if m.name == "acc1_percent"), last)
        return (
            f"Published is {best.value:g} % top-1 accuracy on {best.dataset} ({best.source}); we "
            "have not measured it."
        )
    return "Their accuracy is not measured."


def architecture(facts: CardFacts) -> str:
    """Size, input, and constructor keywords."""
    cfg, record, costs = facts.cfg, facts.record, facts.costs
    rows = []
    if costs:
        rows += [("parameters", f"{costs['params']:,}"), ("MACs, one image", f"{costs['macs']:,}")]
    elif facts.params:
        rows.append(("parameters", f"{facts.params:,}"))
    spec = cfg.input
    rows += [
        ("input", f"{spec.in_chans} x {spec.size[0]} x {spec.size[1]}, {spec.interpolation}, crop "
         f"{spec.crop_pct:g}, mean {_numbers(spec.mean)}, deviation {_numbers(spec.std)}"),
        ("classes", f"{cfg.num_classes}{_some(cfg.labels)}"),
        ("weights", _identity(facts)),
        ("architecture version", str(cfg.architecture_version)),
    ]  # fmt: skip
    if record is not None:
        keywords = {**record.config, **cfg.model_args}
        shown = ", ".join(f"{key}={_plain(value)}" for key, value in keywords.items())
        rows.append(("keywords", f"`{shown}`" if shown else "none"))
        rows.append(("reproduces", record.family.upstream))
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)])


def _identity(facts: CardFacts) -> str:
    """Version, size and digest of the weights."""
    cfg = facts.cfg
    weights = facts.record.selected if facts.record else None
    size = f"{weights.size_bytes:,} bytes" if weights and weights.size_bytes else ""
    digest = f"SHA-256 `{cfg.sha256}`" if cfg.sha256 else "SHA-256 pinned on first use"
    return ", ".join(filter(None, [cfg.version and f"version {cfg.version}", size, digest]))


def _plain(value: Any) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _some(labels: tuple[str, ...]) -> str:
    shown = ", ".join(map(plain, labels[:10]))
    return f": {shown}{', ...' if len(labels) > 10 else ''}" if labels else ""


def intended_use(facts: CardFacts) -> str:
    """What it is for, and where it ends."""
    data = facts.data
    limits = list(data.limits) if data else []
    said = facts.words.get(card_text.LIMITS)
    use = facts.words.get(card_text.USE) or (data.use if data else NOT_STATED)
    results = (facts.accuracy or {}).get("results", {})
    for part, found in results.items():
        if split_of(part) == "test":
            limits.append(
                f"Measured on {found['total']} images: one image more or less is "
                f"{100 / found['total']:.2f} points."
            )
    refused = facts.record.family.not_exportable if facts.record else {}
    limits += [f"No export with {key}: {why}." for key, why in refused.items()]
    listed = "\n".join(f"- {limit}" for limit in limits)
    shown = "\n\n".join(filter(None, [said, listed])) or NOT_STATED
    return f"{use}\n\nLimits:\n\n{shown}"


def contact(facts: CardFacts) -> str:
    """Who answers questions, if the owner says."""
    return facts.words.get(card_text.CONTACT, "")


def training(facts: CardFacts) -> str:
    """Data and recipe."""
    data = facts.data
    parts = [f"Data: {data.title}. {data.about}"] if data else []
    parts += [_own_data(facts, facts.run)] if facts.run is not None else []
    weights = facts.record.selected if facts.record else None
    found = facts.training
    if found is None:
        if weights is not None and weights.repo:
            upstream = facts.record.family.upstream if facts.record else ""
            parts.append(
                f"Trained by the authors ({upstream}, original file: {weights.url or 'unknown'}), "
                f"copied by `{weights.repo}`; not trained or changed here."
            )
        else:
            parts.append("How these weights were trained is not recorded.")
        return "\n\n".join(parts)
    recipe = found["recipe"]
    name = f"`{recipe['name']}`" if recipe.get("name") else "unnamed"
    source = f" ({recipe['source']})" if recipe.get("source") else ""
    idle = {name for (key, value), names in _IDLE.items() if recipe.get(key) == value
            for name in names}  # fmt: skip
    settings = ", ".join(
        f"{key.replace('_', ' ')} {value}"
        for key, value in recipe.items()
        if key not in (*_NOT_SETTINGS, *idle) and value not in _UNSET
    )
    images = f" {found['training_images']:,} images," if found.get("training_images") else ""
    seed = recipe.get("seed", 0)
    parts.append(
        f"Recipe {name}{source}, seed {seed}:{images} {settings}. The epoch with the best "
        f"validation accuracy was kept, {found['best_epoch']}; the test part took no part in any "
        f"choice. It took {found['seconds']:.0f} s. {_how(found)}"
    )
    parts.append(seeds_table(facts))
    if weights is not None and weights.recipe:
        parts.append(f"```bash\nconvattn train --reproduce {facts.name} --out run/\n```")
    return "\n\n".join(filter(None, parts))


def _own_data(facts: CardFacts, run: OwnRun) -> str:
    """The images of one's own: in the owner's words, then as they were counted."""
    parts = ", ".join(f"{count:,} {part}" for part, count in run.metrics.get("images", {}).items())
    classes = run.metrics.get("classes", {})
    shown = ", ".join(f"{plain(name)} {count:,}" for name, count in list(classes.items())[:20])
    more = ", ..." if len(classes) > 20 else ""
    skipped, digest = len(run.metrics.get("skipped", ())), run.metrics.get("data_sha256")
    counted = [
        f"Images of {plain(run.data)}: {parts}." if parts else "",
        f"Training images by class: {shown}{more}." if shown else "",
        f"Left out, because they cannot be read: {skipped}." if skipped else "",
        f"Digest of the folder: `{digest[:16]}`." if digest else "",
    ]
    said = facts.words.get(card_text.DATA)
    return "\n\n".join(filter(None, [said, " ".join(filter(None, counted))]))


def _how(found: Any) -> str:
    return where(found).replace("Measured on", "Trained on") if found.get("machine") else ""


def licence(facts: CardFacts) -> str:
    """Code and weights separately; statements that conflict are shown, not resolved."""
    cfg, record = facts.cfg, facts.record
    if record is None:
        return f"Weights: {plain(cfg.licence) or 'not stated'}. Code of the architecture: timm's."
    terms = record.family.licence
    rows = [
        "| what | licence as stated | by |",
        "|---|---|---|",
        f"| weights | {plain(cfg.licence) or 'not stated'} | {_owner(facts)} |",
        f"| upstream's code | {terms.code} | {record.family.upstream} |",
        "| this implementation | Apache-2.0 | convattn-zoo |",
    ]
    if card_text.LICENCE in facts.words:
        rows.append(f"| images | {_cell(facts.words[card_text.LICENCE])} | {_owner(facts)} |")
    if terms.note:
        rows += ["", terms.note]
    return "\n".join(rows)


def _cell(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _owner(facts: CardFacts) -> str:
    weights = facts.record.selected if facts.record else None
    if weights is None:
        return "the publisher of this bundle"
    if weights.bundled:
        return "convattn-zoo"
    return f"{weights.repo} on the Hub"


def citation(facts: CardFacts) -> str:
    """Whom to cite for which layer, and the BibTeX that `convattn cite` prints.

    Raises: ConfigError, code "citation".
    """
    record = facts.record
    if record is None:
        return "See timm."
    parts = [record.family.cite_note]
    lineage = lineage_of(record)
    if lineage is not None:
        origin = f"**{lineage.layer}.** {lineage.what} {lineage.origin} {lineage.contrast}"
        parts.append(origin.strip())
    parts.append(f"```bibtex\n{bibtex_of(record)}\n```")
    return "\n\n".join(filter(None, parts))
