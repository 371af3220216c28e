"""The model card of a bundle: README.md with the metadata that the Hugging Face Hub reads.

Only facts that a record, a measured file or a parity report states; each number names its source.
`check_card` is what publishing insists on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo import ModelRecord, PretrainedCfg
from zoo._version import __version__
from zoo.errors import ConfigError
from zoo.records import Metric

from .parity import ParityReport

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

METRICS = "## Metrics"
_ROW = re.compile(r"^\| .+ \|$", re.MULTILINE)

# SPDX name in our records -> identifier that the Hub knows; anything else is "other"
_HUB_LICENCES = {
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "bsd-3-clause": "bsd-3-clause",
    "bsd-2-clause": "bsd-2-clause",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "cc0-1.0": "cc0-1.0",
}


def render_card(
    cfg: PretrainedCfg,
    record: ModelRecord | None,
    report: ParityReport,
    metrics: Sequence[Metric] = (),
) -> str:
    """README.md of a bundle.

    Args:
        cfg: of the model whose weights the bundle holds.
        record: what the registry knows; None for a model that timm builds.
        report: the passing parity report.
        metrics: numbers with their sources, published or measured.
    """
    from huggingface_hub import ModelCard

    data = _metadata(cfg, record, metrics)
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {cfg.name}",
        _about(cfg, record),
        _use(cfg),
        f"{METRICS}\n\n{_metrics(metrics)}",
        f"## Parity\n\n{_parity(report)}",
        f"## Licence\n\n{_licence(cfg, record)}",
        f"## Citation\n\n{_citation(record)}",
    ]
    text = "\n\n".join(parts) + "\n"
    return str(ModelCard(text).content)


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
    if lacks:
        text = f"README.md lacks {', '.join(lacks)}"
        raise ConfigError(f"{text}; bundle again with --licence, --measured", code="card")


def _metadata(
    cfg: PretrainedCfg, record: ModelRecord | None, metrics: Sequence[Metric]
) -> ModelCardData:
    from huggingface_hub import EvalResult, ModelCardData

    known = _HUB_LICENCES.get(cfg.licence.lower())
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=re.sub(r"[^a-z0-9]+", "-", metric.dataset.lower()).strip("-"),
            dataset_name=metric.dataset,
            metric_type=metric.name,
            metric_value=metric.value,
        )
        for metric in metrics
    ]
    extra: dict[str, Any] = {} if known or not cfg.licence else {"license_name": cfg.licence}
    if extra:
        extra["license_link"] = "LICENSE"
    return ModelCardData(
        license=known or ("other" if cfg.licence else None),
        library_name="convattn-zoo",
        pipeline_tag="image-classification",
        tags=["timm", "onnx", "safetensors", *([record.family.name] if record else [])],
        model_name=cfg.name if results else None,
        eval_results=results or None,
        **extra,
    )


def _about(cfg: PretrainedCfg, record: ModelRecord | None) -> str:
    spec = cfg.input
    about = f"{record.description}. Paper: {record.family.paper}." if record else "A model of timm."
    return (
        f"{about[:1].upper()}{about[1:]} {cfg.num_classes} classes, input {spec.in_chans} x "
        f"{spec.size[0]} x {spec.size[1]}, version {cfg.version or 'none'}, SHA-256 of "
        f"model.safetensors `{cfg.sha256}`. Written by convattn-zoo {__version__}."
    )


def _use(cfg: PretrainedCfg) -> str:
    timm = "import timm, zoo.timm_registry" if cfg.timm_name.startswith("zoo_") else "import timm"
    return f"""## Use

`REPO` is this repository, as ORG/NAME.

```python
import zoo  # every byte is compared with manifest.json

model = zoo.from_pretrained(REPO, revision="v{cfg.version}")
```

```python
{timm}

model = timm.create_model("hf-hub:" + REPO + "@v{cfg.version}", pretrained=True)
```

`onnx/model.onnx` takes normalised float32 `pixel_values` (batch, {cfg.input.in_chans}, \
{cfg.input.size[0]}, {cfg.input.size[1]}) and returns `logits`; preprocessor_config.json and \
config.json say how an image becomes such an input."""


def _metrics(metrics: Sequence[Metric]) -> str:
    if not metrics:
        return "No accuracy was measured for these weights."
    rows = [f"| {m.name} | {m.value:g} | {m.dataset} | {m.source} |" for m in metrics]
    return "\n".join(["| metric | value | on | source |", "|---|---|---|---|", *rows])


def _parity(report: ParityReport) -> str:
    lines = [
        "Largest error against the model in float64, beside the error that eager float32 makes.",
        "",
        "| file | ran on | max error | eager float32 | same top-1 |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['file']} | {row['provider']} | {row['max_abs_error']:.1e} | "
        f"{row['eager_max_abs_error']:.1e} | {100 * row['top1_agreement']:.1f} % |"
        for row in report.summary()
    ]
    return "\n".join(lines)


def _licence(cfg: PretrainedCfg, record: ModelRecord | None) -> str:
    note = f" {record.family.licence.note}" if record and record.family.licence.note else ""
    return f"Weights: {cfg.licence or 'not stated'}.{note} See LICENSE."


def _citation(record: ModelRecord | None) -> str:
    if record is None or not record.family.bibtex:
        return "See timm."
    note = f"{record.family.cite_note}\n\n" if record.family.cite_note else ""
    return f"{note}```bibtex\n{record.family.bibtex}\n```"
