"""Write zoo/catalog/costs.json: parameters and multiply-accumulates of every registered model, and
of the weights that have an input or keywords of their own.

Counted on the meta device: no weights, no arithmetic. MACs are half of what torch's flop counter
reports (matrix products, convolutions, attention) for one image of the model's input size.

    python -m benchmarks.model_costs
"""

from __future__ import annotations

import json

import torch
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo.catalog.tables import COSTS
from zoo.catalog.weights_records import WeightsRecord
from zoo.files.local import write_text


def count_costs(name: str) -> dict[str, int]:
    """Parameters and MACs of one model, or of ``MODEL.TAG``, built on the meta device."""
    record = zoo.get_record(name)
    weights = record.selected if "." in name else None
    spec = (weights and weights.input) or record.input
    with torch.device("meta"):
        model = zoo.create_model(record.name, **(weights.overrides if weights else {})).eval()
        x = torch.empty(1, spec.in_chans, *spec.size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    params = sum(p.numel() for p in model.parameters())
    return {"params": params, "macs": counter.get_total_flops() // 2}


def counted() -> list[str]:
    """Names of the table."""
    weights = zoo.list_models(pretrained=True, with_tags=True)
    own = [name for name in weights if _is_changed(zoo.get_record(name).selected)]
    return sorted([*zoo.list_models(), *own])


def _is_changed(weights: WeightsRecord | None) -> bool:
    return weights is not None and bool(weights.overrides or weights.input)


def main() -> None:
    """Count everything and write the table."""
    lines = [f"  {json.dumps(name)}: {json.dumps(count_costs(name))}" for name in counted()]
    write_text(COSTS, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
