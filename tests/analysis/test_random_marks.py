"""Random weights of models of others are marked in every picture, table and JSON of an analysis."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zoo.cli import cli
from zoo.cli.analyze import _VERBS

SOURCE = """
from torch import nn


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x, need_weights=False)[0]


class Net(nn.Module):
    pretrained_cfg = {"input_size": (3, 32, 32), "label_names": list("0123456789")}

    def __init__(self, width=8, num_classes=10):
        super().__init__()
        self.way_in = nn.Conv2d(3, width, 8, 8)
        self.attention, self.head = Attention(width), nn.Linear(width, num_classes)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x):
        x = self.way_in(x).flatten(2).transpose(1, 2)
        x = x + self.attention(x)
        x = x + self.mlp(x)
        return self.head(x.mean(1))
"""
SMALL = ("--set", "img_size=32", "--set", "patch_size=8", "--set", "depth=3")
MODELS = {
    "own": ("py:mine.py:Net",),
    "timm": ("timm:convit_tiny", *SMALL, "--set", "embed_dim=16", "--set", "num_classes=10"),
    "torchvision": ("torchvision:squeezenet1_1", "--set", "num_classes=10"),
}
LIMITS: dict[str, tuple[str, ...]] = {
    "landscape": ("--grid", "3", "--clean"),
    "hessian": ("--batches", "1", "--max-iterations", "2", "--clean"),
    "noise": ("--bands", "2"),
}
TRAINED = {"buildup", "sweep"}  # they show what was trained
ATTENTION = {"attention", "gates", "nonlocality", "similarity"}  # torchvision's squeezenet has none
QUICK = {("fourier", "torchvision"), ("robustness", "own"), ("gates", "timm")}


FEW = ("--images", "3", "--fast", "--batch-size", "3")


def _cases() -> list[Any]:
    cases = []
    for number, verb in enumerate(sorted(_VERBS.keys() - TRAINED)):
        for model in MODELS:
            if (verb in ATTENTION and model == "torchvision") or (verb, model) == ("gates", "own"):
                continue
            quick = (verb, model) in QUICK or (model == "own" and verb != "robustness")
            marks = [] if quick else [pytest.mark.slow]
            cases.append(pytest.param(verb, model, number, marks=marks, id=f"{verb}-{model}"))
    return cases


@pytest.mark.parametrize(("verb", "model", "seed"), _cases())
def test_random_weights_are_marked(
    verb: str, model: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(SOURCE)
    words = [*MODELS[model], "--init", str(seed), "--data", "digits", "--out", "out", "--json"]
    words += [] if verb in ("gates", "attention") else FEW
    words += LIMITS.get(verb, ())
    done = CliRunner().invoke(cli, ["analyze", verb, *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    name = f"{MODELS[model][0]}.random"
    found = json.loads(done.stdout)
    assert found == json.loads(Path(f"out/{verb}.json").read_text())
    assert name in {entry["model"] for entry in found["results"]}
    assert name in {row["model"] for row in found["rows"]}
    with Path(f"out/{verb}.csv").open() as handle:
        assert name in {row["model"] for row in csv.DictReader(handle)}
    drawn = Path(f"out/{verb}.svg").read_text()  # letters are paths; what they say is a comment
    assert ".random" in "".join(drawn.split("<!--")[1:])
