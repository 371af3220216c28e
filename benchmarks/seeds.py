"""Runs of one model with several seeds: mean, interval, and which one to release.

    python -m benchmarks.seeds runs/convit_nano-0 runs/convit_nano-1 runs/convit_nano-2
    python -m benchmarks.seeds --add runs/convit_nano-3     # to weights that are released already

Writes model_cards/measured/NAME/training.json: the metrics of the run with the best validation
accuracy (of equals, the smallest seed) and, under "seeds", all of them. The test accuracy takes no
part in the choice. Seeds that are added change the mean and its interval, not the release. Prints
what the record of the weights needs.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError
from zoo.files.local import sha256_file, write_text
from zoo.files.manifest import read_manifest

Metrics = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]
# Student's t for a two-sided 95 % interval, by degrees of freedom.
_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval over seeds (Student's t), cut to 0 and 100 %."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    spread = _STUDENT[len(values) - 1] * math.sqrt(variance / len(values))
    return mean, max(0.0, mean - spread), min(100.0, mean + spread)


def read_runs(directories: list[Path], released: Sequence[Metrics] = ()) -> list[Metrics]:
    """Metrics of the runs, by seed. Raises: ConfigError if they, or the metrics of what is released
    already, differ in more than the seed.
    """
    runs = []
    for directory in directories:
        metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
        runs.append({"directory": directory, **metrics})
    runs.sort(key=lambda run: run["recipe"]["seed"])
    everything = [*released, *runs]
    jobs = {
        json.dumps([run["model"], run["data"], {**run["recipe"], "seed": 0}], sort_keys=True)
        for run in everything
    }
    seeds = [run["recipe"]["seed"] for run in everything]
    if len(jobs) != 1 or len(set(seeds)) != len(seeds):
        raise ConfigError(f"the runs must differ in their seed alone; got seeds {seeds}")
    return runs


def summarize(runs: Sequence[Metrics], earlier: Sequence[Metrics] = ()) -> Metrics:
    """Each seed's accuracies, those of an `earlier` summary too, and their mean with a 95 %
    interval over seeds.
    """
    rows = [
        *earlier,
        *(
            {
                "seed": run["recipe"]["seed"],
                "validation_acc1_percent": run["validation"]["acc1_percent"],
                "test_acc1_percent": run["test"]["acc1_percent"],
                "seconds": run["seconds"],
            }
            for run in runs
        ),
    ]
    content: Metrics = {"runs": sorted(rows, key=lambda row: row["seed"])}
    for key in ("validation_acc1_percent", "test_acc1_percent"):
        if len(rows) > 1:
            mean, low, high = mean_interval([row[key] for row in content["runs"]])
            content[key] = {
                "mean": round(mean, 3),
                "interval95": [round(low, 3), round(high, 3)],
            }
    return content


def add_seeds(released: Metrics, directories: list[Path]) -> Metrics:
    """The training.json of `released` weights with further seeds. Raises: as `read_runs`."""
    earlier = released["seeds"]["runs"]
    known = [{**released, "recipe": {**released["recipe"], "seed": r["seed"]}} for r in earlier]
    summary = summarize(read_runs(directories, known), earlier)
    return {**released, "seeds": {**summary, "released": released["seeds"]["released"]}}


def _measured(directory: Path) -> Path:
    name = read_manifest(directory).name
    return ROOT / "model_cards" / "measured" / name / "training.json"


def main() -> None:
    """Summarise the runs named on the command line."""
    words = sys.argv[1:]
    directories = [Path(word) for word in words if word != "--add"]
    if not directories:
        sys.exit(__doc__)
    if "--add" in words:
        target = _measured(directories[0])
        content = add_seeds(json.loads(target.read_text(encoding="utf-8")), directories)
        write_text(target, json.dumps(content, indent=2) + "\n")
        return
    runs = read_runs(directories)
    chosen = max(runs, key=lambda run: run["validation"]["correct"])  # the first of equals
    directory: Path = chosen.pop("directory")
    content = {**chosen, "seeds": {**summarize(runs), "released": chosen["recipe"]["seed"]}}
    write_text(_measured(directory), json.dumps(content, indent=2) + "\n")
    weights = directory / "model.safetensors"
    print(f"{weights}: recipe={chosen['recipe']['name']!r}, seed={chosen['recipe']['seed']},")
    print(f"sha256={sha256_file(weights)!r}, size_bytes={weights.stat().st_size}")


if __name__ == "__main__":
    main()
