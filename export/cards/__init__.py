"""The model card of a bundle: README.md, what it shows, and what publishing insists on.

It is the card that `convattn card` writes (`card_document`), with its pictures in images/ and the
Hub's structured results in .eval_results/ of the same folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalog.records import ModelRecord
from zoo.catalog.weights_records import Metric
from zoo.errors import ConfigError, MissingDependencyError
from zoo.factory.description import PretrainedCfg
from zoo.files.local import write_text

from ..parity.report import ParityReport
from .document import IMAGES, render
from .facts import CardFacts, MeasuredParity, read_facts
from .figures import Picture, draw_pictures
from .metadata import eval_results
from .own_run import OwnRun

if TYPE_CHECKING:
    from torch import nn


METRICS = "## Metrics"
EVAL_RESULTS = ".eval_results"
_ROW = re.compile(r"^\| .+ \|$", re.MULTILINE)


def bundle_facts(
    cfg: PretrainedCfg,
    record: ModelRecord | None,
    report: ParityReport,
    metrics: Sequence[Metric] = (),
    measured: str | Path | None = None,
    *,
    run: OwnRun | None = None,
    words: Mapping[str, str] | None = None,
    repo: str = "",
) -> CardFacts:
    """What the card of a bundle is made of.

    Args:
        cfg: of the model whose weights the bundle holds.
        record: what the registry knows; None for a model that timm builds.
        report: the passing parity report of the bundle's own files.
        metrics: numbers with their sources that the caller measured.
        measured: folder of measured files; they must be of the same weights.
        run: the training run that the weights come from; it tells how they were trained and, where
            nothing else was measured, how good they are.
        words: section -> what their owner says (`zoo.files.card_text`).
        repo: ``org/name`` that the bundle is for; without it ORG stands for the organisation until
            the bundle is published.
    Raises: ConfigError, IntegrityError.
    """
    facts = read_facts(cfg, _of_these_weights(record, cfg), measured)
    elsewhere = [entry for entry in facts.parity if entry.file != "parity.json"]
    own = MeasuredParity("parity.json", report, {})
    return replace(
        facts,
        parity=(own, *elsewhere),
        measured=tuple(metrics),
        run=run,
        training=facts.training or (run.metrics if run else None),
        accuracy=facts.accuracy or (run.accuracy() if run else None),
        words=words or {},
        repo=repo or placeholder(cfg.name),
    )


def placeholder(name: str) -> str:
    """The repository in the snippets of a bundle that has none yet."""
    return f"ORG/{name}"


def with_repo(text: str, old: str, new: str) -> str:
    """A card with another repository in its snippets."""
    return re.sub(rf"(?<![\w./-]){re.escape(old)}(?![\w/-]|\.\w)", lambda _: new, text)


def _of_these_weights(record: ModelRecord | None, cfg: PretrainedCfg) -> ModelRecord | None:
    """The record with the weights of `cfg` selected, or with none if it does not know them."""
    if record is None:
        return None
    for weights in record.weights:
        same = (weights.tag, weights.version) == (cfg.tag, cfg.version)
        if same and weights.sha256 in ("", cfg.sha256):
            checkpoint = next((c for c in record.checkpoints if c.tag == cfg.tag), None)
            return replace(record, selected=weights, checkpoint=checkpoint)
    return replace(record, selected=None, checkpoint=None)


def add_card_files(folder: Path, facts: CardFacts, model: nn.Module) -> tuple[Picture, ...]:
    """Write what a card links and the Hub reads beside it: images/ and .eval_results/.

    Returns: the pictures; none without matplotlib, which is an extra.
    Raises: AnalysisError, ResourceError.
    """
    for file, content in eval_results(facts).items():
        write_text(folder / EVAL_RESULTS / file, content)
    try:
        return draw_pictures(facts, folder / IMAGES, model)
    except MissingDependencyError:
        (folder / IMAGES).rmdir()
        return ()


def render_card(facts: CardFacts, pictures: Sequence[Picture] = ()) -> str:
    """README.md of a bundle, with the pictures that lie in its images/."""
    return render(facts, pictures, IMAGES)


def check_card(text: str) -> None:
    """Refuse a card that does not say its licence, where its numbers come from, or whom to cite.

    Raises: ConfigError, code "card".
    """
    import yaml  # comes with huggingface_hub
    from huggingface_hub import ModelCard

    try:
        data = ModelCard(text).data
    except (ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"README.md has unreadable metadata: {reason}", code="card") from None
    lacks = []
    if not data.get("license"):
        lacks.append("license in its metadata")
    if not re.search(r"^@\w+\{", text, re.MULTILINE):
        lacks.append("a BibTeX citation")
    section = text.partition(f"\n{METRICS}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in _ROW.findall(section)[1:]]
    if not rows or not all(len(row) == 4 and row[-1].strip() for row in rows):
        lacks.append(f"a table of numbers with their sources under {METRICS!r}")
    if re.search(r"\bORG/", text):
        lacks.append("the repository that its snippets read from (ORG/...)")
    if lacks:
        text = f"README.md lacks {', '.join(lacks)}"
        raise ConfigError(f"{text}; bundle again with --licence, --measured", code="card")
