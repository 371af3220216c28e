"""What is loaded when: measured in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def loaded_by(code: str) -> set[str]:
    """Top-level packages in memory after running `code` in a fresh interpreter."""
    report = "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code + report],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


LISTING = {
    "importing": "import zoo; zoo.__version__",
    "listing": "import zoo; assert zoo.list_models()",
    "listing weights": "import zoo; zoo.list_models(pretrained=True, with_tags=True)",
    "reading a record": "import zoo; zoo.get_record(zoo.list_models()[0]).description",
    "naming errors": "import zoo; zoo.ZooError, zoo.InputSpec, zoo.WeightsRecord",
}


@pytest.mark.parametrize("code", LISTING.values(), ids=LISTING)
def test_reading_the_catalogue_loads_no_heavy_package(code: str) -> None:
    heavy = {"torch", "numpy", "timm", "torchvision", "safetensors", "huggingface_hub", "PIL"}
    assert not loaded_by(code) & heavy


def test_the_check_notices_torch() -> None:
    assert "torch" in loaded_by("import zoo.layers")  # guards against an empty report


def test_a_finished_bundle_is_published_without_torch() -> None:
    loaded = loaded_by("import export; export.publish; export.verify_directory")
    assert "huggingface_hub" not in loaded
    assert not loaded & {"torch", "timm", "onnxscript", "matplotlib"}


def test_creating_and_running_a_model_loads_neither_timm_nor_torchvision() -> None:
    code = (
        "import torch, zoo; model = zoo.create_model('convit_nano').eval();"
        "assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)"
    )
    loaded = loaded_by(code)
    assert "torch" in loaded
    assert not loaded & {"timm", "torchvision", "onnx", "onnxruntime", "matplotlib", "sklearn"}
