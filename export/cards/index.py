"""model_cards/README.md: all weights with what was measured, and all models with what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zoo.catalog.records import ModelRecord
from zoo.catalog.registry import get_record, list_models
from zoo.catalog.tables import count, read_costs

from .document import cards
from .facts import CardFacts, facts_of
from .metadata import split_of


def index(measured: str | Path) -> str:
    """The whole document. Raises: see `facts_of`."""
    return f"""# Model cards

Written by `make cards` from the catalogue and the files in `measured/`; nothing here is edited by
hand. An accuracy in bold was measured by us, with its file in `measured/`; the others are
published, and the card names the source. How cards are made: [docs/cards.md](../docs/cards.md).

## Weights

{weights_table(measured)}

Accuracy: top-1, measured on the test part with its 95 % interval. Parity: largest error of the
ONNX file against the model in float64, in units of what eager float32 makes, on the execution
provider that ran it; all errors stand in the card. Licence: of the weights; of code below.

## All models

{models_table(measured)}

Licences are those of upstream's code as stated. † There is more to say, a conflict for instance:
see the card or `convattn info MODEL`, and [THIRD_PARTY.md](../THIRD_PARTY.md).
`convattn cite MODEL` says whom to cite.
"""


def weights_table(measured: str | Path, link: str = "") -> str:
    """One row for each set of weights that loads by name.

    Args: link: where the cards are, relative to the document.
    """
    lines = [
        "| weights | parameters | MACs | accuracy, % | parity (ONNX) | licence |",
        "|---|---|---|---|---|---|",
    ]
    for name in cards():
        facts = facts_of(name, measured)
        terms = facts.record.family.licence if facts.record else None
        mark = _mark(terms.note) if terms else ""
        cells = (
            f"[{name}]({link}{name}.md)", *_cost(facts.costs), accuracy(facts),
            parity(facts), f"{facts.cfg.licence}{mark}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mark(note: str) -> str:
    return " †" if note else ""


def _cost(cost: Mapping[str, int]) -> tuple[str, str]:
    return (count(cost["params"]), count(cost["macs"])) if cost else ("", "")


def accuracy(facts: CardFacts) -> str:
    """Top-1 of the test part or the last part measured; else what is published last."""
    results = (facts.accuracy or {}).get("results", {})
    if results:
        part = next((name for name in results if split_of(name) == "test"), list(results)[-1])
        low, high = results[part]["interval95_percent"]
        shown = results[part]["acc1_percent"]
        other = "" if split_of(part) == "test" else f", {part}"
        return f"**{shown:.1f}** ({low:.1f} to {high:.1f}){other}"
    top1 = [m for m in facts.published if m.name == "acc1_percent"]
    return f"{top1[-1].value:g}, {top1[-1].dataset.partition(' ')[0]}" if top1 else "not measured"


def parity(facts: CardFacts) -> str:
    """The float32 ONNX file on each provider that ran it."""
    cells = []
    for entry in facts.parity:
        for row in entry.report.summary():
            if row["file"] == "onnx/model.onnx" and row["output"] == "logits":
                verdict = "" if row["passed"] else ", **FAIL**"
                provider = row["provider"].removesuffix("ExecutionProvider")
                provider += ", TF32" if row["tf32"] else ""
                cells.append(f"{row['ratio']:.1f} {provider}{verdict}")
    return ", ".join(cells) or "not measured"


def models_table(measured: str | Path) -> str:
    """One row for each registered model."""
    lines = [
        "| model | parameters | MACs | accuracy, % | parity (ONNX) | code | arXiv |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in list_models():
        record = get_record(name)
        terms = record.family.licence
        cells = (
            f"`{name}`", *_cost(read_costs().get(name, {})), *_outcome(record, measured),
            f"{terms.code}{_mark(terms.note)}", record.family.paper.removeprefix("arXiv:"),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _outcome(record: ModelRecord, measured: str | Path) -> tuple[str, str]:
    """Accuracy and parity of the first weights; what is published of those to import; or none."""
    if record.selected is not None:
        facts = facts_of(record.name, measured)
        return accuracy(facts), parity(facts)
    if record.checkpoint is None:
        return "no weights", ""
    top1 = [m for m in record.checkpoint.metrics if m.name == "acc1_percent"]
    return (
        f"{top1[0].value:g}, {top1[0].dataset.partition(' ')[0]}; to import"
        if top1
        else "to import"
    ), ""
