"""Runs of one model with several seeds: mean, interval, and which one to release.

    python -m benchmarks.seeds runs/convit_nano-0 runs/convit_nano-1 runs/convit_nano-2

Writes model_cards/measured/NAME/training.json: the metrics of the run with the best validation
accuracy (of equals, the smallest seed) and, under "seeds", all of them. The test accuracy takes no
part in the choice. Prints what the record of the weights needs.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError
from zoo.files.local import sha256_file, write_text
from zoo.files.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[1]
# Student's t for a two-sided 95 % interval, by degrees of freedom.
_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval over seeds (Student's t), cut to 0 and 100 %."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    spread = _STUDENT[len(values) - 1] * math.sqrt(variance / len(values))
    return mean, max(0.0, mean - spread), min(100.0, mean + spread)


def read_runs(directories: list[Path]) -> list[dict[str, Any]]:
    """Metrics of the runs, by seed. Raises: ConfigError if they differ in more than the seed."""
    runs = []
    for directory in directories:
        metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
        runs.append({"directory": directory, **metrics})
    runs.sort(key=lambda run: run["recipe"]["seed"])
    jobs = {
        json.dumps([run["model"], run["data"], {**run["recipe"], "seed": 0}], sort_keys=True)
        for run in runs
    }
    seeds = [run["recipe"]["seed"] for run in runs]
    if len(jobs) != 1 or len(set(seeds)) != len(seeds):
        raise ConfigError(f"the runs must differ in their seed alone; got seeds {seeds}")
    return runs


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Each seed's accuracies, and their mean with a 95 % interval over seeds."""
    content: dict[str, Any] = {
        "runs": [
            {
                "seed": run["recipe"]["seed"],
                "validation_acc1_percent": run["validation"]["acc1_percent"],
                "test_acc1_percent": run["test"]["acc1_percent"],
                "seconds": run["seconds"],
            }
            for run in runs
        ]
    }
    for key in ("validation_acc1_percent", "test_acc1_percent"):
        if len(runs) > 1:
            mean, low, high = mean_interval([run[key] for run in content["runs"]])
            content[key] = {
                "mean": round(mean, 3),
                "interval95": [round(low, 3), round(high, 3)],
            }
    return content


def main() -> None:
    """Summarise the runs named on the command line."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    runs = read_runs([Path(word) for word in sys.argv[1:]])
    chosen = max(runs, key=lambda run: run["validation"]["correct"])  # the first of equals
    directory: Path = chosen.pop("directory")
    name = read_manifest(directory).name
    content = {**chosen, "seeds": {**summarize(runs), "released": chosen["recipe"]["seed"]}}
    target = ROOT / "model_cards" / "measured" / name / "training.json"
    write_text(target, json.dumps(content, indent=2) + "\n")
    weights = directory / "model.safetensors"
    print(f"{weights}: recipe={chosen['recipe']['name']!r}, seed={chosen['recipe']['seed']},")
    print(f"sha256={sha256_file(weights)!r}, size_bytes={weights.stat().st_size}")


if __name__ == "__main__":
    main()
