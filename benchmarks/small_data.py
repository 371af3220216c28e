"""How accuracy falls with fewer training images: figure and table of the small-data sweep.

    convattn train --sweep small-data --out runs/small-data     # 48 short runs
    python -m benchmarks.small_data runs/small-data             # keep the measurement, draw
    python -m benchmarks.small_data                             # draw again

The first form writes model_cards/measured/small-data.json; both write docs/small_data.md and
docs/images/small_data.png from it.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from zoo.analysis._figure import new_figure, save, series, tidy
from zoo.catalog.tables import read_costs
from zoo.files.local import write_text

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "model_cards" / "measured" / "small-data.json"
PAGE = ROOT / "docs" / "small_data.md"
FIGURE = ROOT / "docs" / "images" / "small_data.png"
# Student's t for a two-sided 95 % interval, by degrees of freedom.
_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval over seeds (Student's t), cut to 0 and 100 %."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    spread = _STUDENT[len(values) - 1] * math.sqrt(variance / len(values))
    return mean, max(0.0, mean - spread), min(100.0, mean + spread)


def summarize(rows: list[dict[str, Any]]) -> dict[str, dict[float, dict[str, Any]]]:
    """Model -> fraction -> images, and test accuracy over the seeds; models in the given order."""
    groups: dict[str, dict[float, list[dict[str, Any]]]] = {}
    for row in rows:
        model = groups.setdefault(row["settings"]["model"], {})
        model.setdefault(row["fraction"], []).append(row)
    return {
        model: {
            fraction: {
                "images": group[0]["training_images"],
                "seeds": len(group),
                "acc1_percent": mean_interval([row["test"]["acc1_percent"] for row in group]),
                "seconds": sum(row["seconds"] for row in group),
            }
            for fraction, group in sorted(fractions.items())
        }
        for model, fractions in groups.items()
    }


def draw(found: dict[str, dict[float, dict[str, Any]]]) -> None:
    """Test accuracy against the number of training images, one line for each model."""
    figure = new_figure(6.2, 4.0)
    axes = figure.subplots()
    for number, (model, points) in enumerate(found.items()):
        shift = 1 + 0.03 * (number - (len(found) - 1) / 2)  # so that intervals do not hide another
        x = [point["images"] * shift for point in points.values()]
        means, low, high = zip(*(point["acc1_percent"] for point in points.values()), strict=True)
        errors = [
            [mean - bound for mean, bound in zip(means, low, strict=True)],
            [bound - mean for mean, bound in zip(means, high, strict=True)],
        ]
        axes.errorbar(x, means, yerr=errors, capsize=3, label=model, **series(number))
    axes.set_xscale("log")
    images = sorted({point["images"] for points in found.values() for point in points.values()})
    axes.set_xticks(images, [f"{count:,}" for count in images])
    axes.minorticks_off()
    axes.set_xlabel("training images")
    axes.set_ylabel("test accuracy in %")
    axes.legend(frameon=False, loc="lower right")
    tidy(axes)
    save(figure, FIGURE)


def page(content: dict[str, Any], found: dict[str, dict[float, dict[str, Any]]]) -> str:
    """docs/small_data.md."""
    columns = sorted(
        {f: p["images"] for points in found.values() for f, p in points.items()}.items()
    )
    header = " | ".join(f"{100 * fraction:g} % ({count} images)" for fraction, count in columns)
    lines = [f"| model | {header} |", "|---" * (1 + len(columns)) + "|"]
    for model, points in found.items():
        cells = []
        for fraction, _ in columns:
            mean, low, high = points[fraction]["acc1_percent"]
            cells.append(f"{mean:.1f} ({low:.1f} to {high:.1f})")
        lines.append(f"| `{model}` | {' | '.join(cells)} |")
    rows = content["rows"]
    seeds = sorted({row["seed"] for row in rows})
    minutes = sum(row["seconds"] for row in rows) / 60
    table = "\n".join(lines)
    machine = content["machine"]
    params = ", ".join(f"`{m}` {read_costs()[m]['params']:,}" for m in found)
    return f"""# Few images: which nano model needs them least?

Test accuracy in percent on scikit-learn's digits: mean over {len(seeds)} seeds and its 95 %
interval (Student's t; with so few seeds it is wide). All models have the same recipe,
`{content["recipe"]}`, and see the same number of images: with a tenth of them, every one ten times
as often (the sample-efficiency protocol of d'Ascoli et al., arXiv:2103.10697: the first images of
every class). The epoch is chosen on the validation part, the test part is measured once. The recipe
was not tuned for any of them.

![Test accuracy against training images](images/small_data.png)

{table}

Parameters: {params}.

{len(rows)} runs took {minutes:.0f} minutes of training on {machine["cores"]} cores. The numbers are
in `model_cards/measured/small-data.json`. Made by

<!-- not run: an hour; tests/training/test_sweeps.py sweeps over few images -->
```
convattn train --sweep small-data --out runs/small-data
python -m benchmarks.small_data runs/small-data
```
"""


def main() -> None:
    """Keep a sweep's results, if one is given; draw figure and table from what is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", nargs="?", type=Path, help="directory with sweep.json")
    sweep = parser.parse_args().sweep
    if sweep is not None:
        text = (sweep / "sweep.json").read_text(encoding="utf-8")
        write_text(MEASURED, json.dumps(json.loads(text), indent=1) + "\n")
    content = json.loads(MEASURED.read_text(encoding="utf-8"))
    found = summarize(content["rows"])
    draw(found)
    write_text(PAGE, page(content, found))


if __name__ == "__main__":
    main()
