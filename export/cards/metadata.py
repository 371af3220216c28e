"""The metadata of a card: YAML front matter with model-index, and .eval_results/*.yaml.

Both are made and read back with huggingface_hub's own classes. The model-index holds accuracies as
shares, as the Hub shows them; .eval_results keeps percentages, as leaderboards do. Each result says
where it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.catalog.records import DataRecord
from zoo.catalog.weights_records import Metric
from zoo.errors import ConfigError

from .facts import CardFacts

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData


LIBRARY = "convattn-zoo"
REGISTERS = "zoo.register_in_timm()"

# SPDX name in our records -> identifier that the Hub knows; anything else is "other"
_HUB_LICENCES = {
    name: name
    for name in (
        "apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0",
    )
}  # fmt: skip
# name in our files, in percent -> type and name on the Hub, which takes shares
_METRICS = {
    "acc1_percent": ("accuracy", "Accuracy"),
    "acc5_percent": ("top-5-accuracy", "Top-5 accuracy"),
}
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_GITHUB = re.compile(r"github\.com/[\w.-]+/[\w.-]+")


def loads_in_plain_timm(facts: CardFacts) -> bool:
    """Whether timm alone builds the architecture, under the name in config.json."""
    return not facts.cfg.timm_name.startswith("zoo_")


def front_matter(facts: CardFacts) -> str:
    """The YAML block, with its two lines of dashes. Raises: ConfigError, code "card"."""
    try:
        return f"---\n{_metadata(facts).to_yaml()}\n---"
    except (ValueError, TypeError) as error:
        text = f"the metadata of {facts.name} is refused by huggingface_hub: {error}"
        raise ConfigError(text, code="card") from None


def _metadata(facts: CardFacts) -> ModelCardData:
    from huggingface_hub import ModelCardData

    cfg, data, run = facts.cfg, facts.data, facts.run
    known = _HUB_LICENCES.get(cfg.licence.lower())
    extra: dict[str, Any] = {}
    if cfg.licence and not known:
        extra = {"license_name": cfg.licence, "license_link": "LICENSE"}
    results = index_results(facts)
    return ModelCardData(
        license=known or ("other" if cfg.licence else None),
        library_name="timm" if loads_in_plain_timm(facts) else LIBRARY,
        pipeline_tag="image-classification" if cfg.num_classes else "image-feature-extraction",
        tags=_tags(facts),
        datasets=[data.hub_id] if data else [run.data] if run else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        base_model=_base_model(facts),
        model_name=cfg.name if results else None,
        eval_results=results or None,
        **extra,
    )


def _base_model(facts: CardFacts) -> str | None:
    """What the weights were made from: the start of one's own run, or the copied repository."""
    if facts.run is not None:
        return facts.run.base_model
    weights = facts.record.selected if facts.record else None
    return (weights.repo or None) if weights else None


def _tags(facts: CardFacts) -> list[str]:
    files = {row["file"] for entry in facts.parity for row in entry.report.summary()}
    return [
        *(["timm"] if loads_in_plain_timm(facts) else [LIBRARY]),
        *(["onnx"] if any(file.endswith(".onnx") for file in files) else []),
        "safetensors",
        *([facts.record.family.name] if facts.record else []),
    ]


def measured_metrics_of(facts: CardFacts) -> tuple[Metric, ...]:
    """Our own accuracies as numbers with sources, in the order of the file."""
    if facts.accuracy is None:
        return facts.measured
    try:
        command = facts.accuracy["command"]
        return tuple(
            Metric(
                name="acc1_percent",
                value=float(found["acc1_percent"]),
                dataset=part,
                source=f"measured: `{command}`",
            )
            for part, found in facts.accuracy["results"].items()
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"the accuracy of {facts.name} is not what `convattn evaluate --out` writes"
        raise ConfigError(f"{text}: {error!r}", code="measured") from None


def index_results(facts: CardFacts) -> list[EvalResult]:
    """The model-index: what we measured; else what others measured on exactly these weights."""
    weights = facts.record.selected if facts.record else None
    metrics = measured_metrics_of(facts) or (weights.metrics if weights else ())
    return [_result(metric, facts.data) for metric in metrics]


def _result(metric: Metric, data: DataRecord | None) -> EvalResult:
    from huggingface_hub import EvalResult

    url = source_url(metric.source)
    kind, name = _METRICS.get(metric.name, (metric.name, metric.name))
    known = data is not None and metric.dataset.startswith(data.results)
    return EvalResult(
        task_type="image-classification",
        dataset_type=data.hub_id if known and data else _slug(_without_part(metric.dataset)),
        dataset_name=metric.dataset,
        dataset_split=split_of(metric.dataset),
        metric_type=kind,
        metric_name=name,
        metric_value=round(metric.value / 100, 5) if kind != metric.name else metric.value,
        source_name=metric.source if url else None,
        source_url=url,
    )


def plain(text: str) -> str:
    """A name that others chose, in one line and without a meaning in Markdown, HTML or a table."""
    marks = r"[\\`*\[\]<>|~]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)"
    return re.sub(marks, r"\\\g<0>", " ".join(text.split()))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _without_part(dataset: str) -> str:
    """``"photos/test" -> "photos"``."""
    name, _, part = dataset.rpartition("/")
    return name if name and split_of(part) else dataset


def split_of(dataset: str) -> str | None:
    """``"digits/test" -> "test"``, ``"ImageNet-1k validation" -> "validation"``."""
    last = re.split(r"[/ ]", dataset)[-1]
    return last if last in ("train", "validation", "test") else None


def source_url(source: str) -> str | None:
    """Where a source can be read, if it names a place."""
    arxiv, github = _ARXIV.search(source), _GITHUB.search(source)
    if arxiv:
        return f"https://arxiv.org/abs/{arxiv[1]}"
    if github:
        return f"https://{github[0]}"
    if source.startswith("timm, results/"):
        return "https://github.com/huggingface/pytorch-image-models/tree/main/results"
    return None


def eval_results(facts: CardFacts) -> dict[str, str]:
    """File name in .eval_results -> YAML: the top-1 accuracy on the data set that the Hub knows.

    The test part, or the last one, of what we measured; else every published number, a file each.
    """
    data = facts.data
    if data is None:
        return {}
    own = [m for m in measured_metrics_of(facts) if m.dataset.startswith(data.results)]
    if own:
        best = next((m for m in own if split_of(m.dataset) == "test"), own[-1])
        return {f"{_slug(data.task)}.yaml": _entry(best, data, _notes(facts, best, data))}
    found = {}
    for metric in facts.published:
        if metric.name == "acc1_percent" and metric.dataset.startswith(data.results):
            source = _slug(metric.source.split(",")[0])
            found[f"{_slug(data.task)}-{source}.yaml"] = _entry(metric, data, metric.source)
    return found


def _notes(facts: CardFacts, metric: Metric, data: DataRecord) -> str:
    found = (facts.accuracy or {}).get("results", {}).get(metric.dataset)
    if not found:
        return metric.source
    low, high = found["interval95_percent"]
    return (
        f"{metric.dataset}, {data.split}: {found['total']} images, top-1 in percent, 95 % interval "
        f"{low:.1f} to {high:.1f}"
    )


def _entry(metric: Metric, data: DataRecord, notes: str) -> str:
    import yaml  # comes with huggingface_hub

    content: dict[str, Any] = {
        "dataset": {"id": data.hub_id, "task_id": data.task},
        "value": metric.value,
    }
    url = source_url(metric.source)
    if url:
        content["source"] = {"url": url, "name": metric.source}
    content["notes"] = notes
    entries = _as_the_hub_reads_them([content])
    text: str = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=100)
    return text


def _as_the_hub_reads_them(entries: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The entries, through the client's classes where it has them (they came with 1.3)."""
    try:
        from huggingface_hub import eval_result_entries_to_yaml, parse_eval_result_entries
    except ImportError:
        return entries
    return eval_result_entries_to_yaml(parse_eval_result_entries(list(entries)))
