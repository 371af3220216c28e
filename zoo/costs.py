"""Parameters and MACs of every registered model, from a generated table. No torch.

`make tables` (benchmarks/model_costs.py) writes catalog/costs.json; a test recomputes it.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

COSTS = Path(__file__).parent / "catalog" / "costs.json"


@functools.cache
def read_costs() -> dict[str, dict[str, int]]:
    """Model name -> {"params", "macs"}; MACs are for one image of the model's input size."""
    costs: dict[str, dict[str, int]] = json.loads(COSTS.read_text(encoding="utf-8"))
    return costs
