"""Names in arguments: refused before torch loads, completed by the shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from zoo.catalog.registry import list_models
from zoo.cli import cli
from zoo.cli._references import other_weights

MISSPELT = {
    "export": ("convit_tiyn", "--out", "nowhere"),
    "predict": ("convit_tiyn", "image.png"),
    "embed": ("convit_tiyn", "--data", "images", "--out", "features.npz"),
    "evaluate": ("convit_tiyn", "--data", "digits"),
    "analyze": ("gates", "convit_tiyn", "--data", "digits", "--out", "nowhere"),
    "train": ("convit_tiyn", "--data", "digits", "--out", "nowhere"),
    "bundle": ("convit_tiyn", "--out", "nowhere"),
    "card": ("convit_tiyn",),
    "bench": ("model", "convit_tiyn"),
    "info": ("convit_tiyn",),
    "cite": ("convit_tiyn",),
}
CODE = """
import sys
from zoo.cli import main
for verb, *words in {calls}:
    try:
        main([verb, *words])
    except SystemExit as stopped:
        print(verb, stopped.code, "torch" in sys.modules)
"""


def test_a_misspelt_model_is_answered_by_every_verb_before_torch_loads() -> None:
    calls = [(verb, *words) for verb, words in MISSPELT.items()]
    code = CODE.format(calls=calls)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [f"{verb} 3 False" for verb in MISSPELT]
    said = "error: unknown model 'convit_tiyn'; did you mean convit_tiny"
    assert done.stderr.count(said) == len(MISSPELT)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("export convit_ti", [n for n in list_models() if n.startswith("convit_ti")]),
        ("bench model alternet_n", ["alternet_nano"]),
        ("train convit_nano --data fash", ["fashion_mnist"]),
        ("train convit_nano --recipe photos-s", ["photos-scratch"]),
        ("exp", ["export"]),
    ],
)
def test_the_shell_completes_models_data_and_recipes(words: str, wanted: list[str]) -> None:
    environment = {
        **os.environ,
        "_CONVATTN_COMPLETE": "bash_complete",
        "COMP_WORDS": f"convattn {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    done = subprocess.run(
        [sys.executable, "-m", "zoo"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert wanted
    assert done.stdout.splitlines() == [f"plain,{name}" for name in wanted]


@pytest.mark.parametrize(
    ("name", "data", "other"),
    [
        ("resnet_nano.digits", "fashion_mnist", "resnet_nano.fashion_mnist"),
        ("resnet_nano.digits", "fashion_mnist:somewhere", "resnet_nano.fashion_mnist"),
        ("resnet_nano.fashion_mnist", "fashion_mnist", ""),
        ("resnet_nano.random", "fashion_mnist", ""),
        ("resnet_nano.digits", "photographs", ""),
        ("resnet_nano", "digits", ""),
        ("timm:resnet10t.digits", "digits", ""),
        ("classifier", "digits", ""),
    ],
)
def test_weights_for_other_images_are_pointed_out(name: str, data: str, other: str) -> None:
    remark = other_weights(name, data)
    assert bool(remark) == bool(other)
    assert other in remark


def test_an_analysis_of_weights_for_other_images_says_so(tmp_path: Path) -> None:
    words = ["analyze", "gates", "convit_nano.fashion_mnist", "--data", "digits"]
    found = CliRunner().invoke(cli, [*words, "--out", str(tmp_path)])
    assert found.exit_code == 0, found.output
    assert "note: convit_nano.fashion_mnist was not trained on these images" in found.stderr
