"""Without torch: numpy, Pillow and onnxruntime (and the command's click and rich) are enough."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from ..hub.stranger import build_wheel
from ..surroundings import outside

ROOT = Path(__file__).parents[2]
SLIM = ("numpy", "pillow", "onnxruntime", "click", "rich")
BLOCKED = ("torch", "torchvision", "timm", "onnx", "onnxscript", "huggingface_hub", "safetensors")
BLOCKED += ("einops", "matplotlib", "sklearn", "scipy", "google")

# a finder that answers as if these packages were not installed
BLOCK = f"""
import importlib.util, sys
blocked = {BLOCKED!r}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
real = importlib.util.find_spec
importlib.util.find_spec = lambda n, *a: None if n.partition(".")[0] in blocked else real(n, *a)
"""


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", BLOCK + code, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_verification_needs_neither_torch_nor_onnx(exported: Path) -> None:
    code = """
import export
found = export.verify_directory(sys.argv[1])
assert found.reference == "stored" and found.report
assert {r.file for r in found.report.rows} == {"onnx/model.onnx"}
assert found.report.attestation["model.pt"]["not_run"].startswith("it needs torch")
assert not set(blocked) & set(sys.modules)
"""
    done = run(code, str(exported))
    assert done.returncode == 0, done.stderr


def test_prediction_needs_neither_torch_nor_onnx(exported: Path) -> None:
    code = """
from export.runtime.opening import open_predictor
print(open_predictor(sys.argv[1])(sys.argv[2]).label)
"""
    done = run(code, str(exported), str(ROOT / "examples" / "digit_7.png"))
    assert done.stdout == "7\n", done.stderr


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (("verify", "DIR", "--json"), 0),
        (("predict", "DIR/onnx/model.onnx", "examples/digit_7.png", "--json"), 0),
        (("doctor", "--json"), 0),
        (("verify", "DIR", "--provider", "tensorrt", "--json"), 7),
        (("predict", "DIR/model.pt", "examples/digit_7.png", "--json"), 3),
        (("verify", "DIR", "--per-node", "--json"), 3),
        (("predict", "DIR", "examples/digit_7.png", "--json"), 0),
        (("predict", "convit_nano", "examples/digit_7.png", "--json"), 3),
        (("embed", "convit_nano", "--data", "digits", "--out", "x.npz", "--json"), 3),
        (("evaluate", "convit_nano", "--data", "digits", "--json"), 3),
        (("train", "convit_nano", "--data", "digits", "--out", "x", "--json"), 3),
        (("export", "convit_nano", "--out", "x", "--json"), 3),
        (("bundle", "convit_nano", "--out", "x", "--json"), 3),
        (("import", "x.pth", "--model", "convit_nano", "--out", "x", "--json"), 3),
        (("analyze", "fourier", "convit_nano", "--data", "digits", "--out", "x", "--json"), 3),
        (("bench", "model", "convit_nano", "--json"), 3),
        (("bench", "load", "convit_nano", "--json"), 3),
    ],
)
def test_the_command_prints_json_and_nothing_else(
    exported: Path, args: tuple[str, ...], status: int
) -> None:
    given = [arg.replace("DIR", str(exported)) for arg in args]
    done = run("from zoo.cli import main\nmain(sys.argv[1:])", *given)
    assert done.returncode == status, done.stderr
    content = json.loads(done.stdout)
    if status:
        assert content["error"]["message"]
        assert content["error"]["code"] != "bug"
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_fresh_environment_without_torch_verifies_and_predicts(
    exported: Path, tmp_path: Path
) -> None:
    """The real thing: a new environment, our package without its dependencies."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet"]
    command = [*install, *SLIM]
    done = subprocess.run(command, env=outside(), capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"the package index does not answer: {done.stderr.strip()[-200:]}")
    built = build_wheel(tmp_path)
    subprocess.run([*install, "--no-deps", str(built)], check=True, timeout=600)
    listed = subprocess.run([str(python), "-m", "pip", "list"], capture_output=True, text=True)
    assert "torch" not in listed.stdout
    command = [str(python), "-m", "zoo", "verify", str(exported), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["reference"] == "stored"
    assert content["parity"]["passed"]
    assert "torch" not in content["parity"]["versions"]
