"""The steps of `benchmarks.gpu`. Each takes a `Context` and returns JSON values."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import zoo
from export.parity.candidates import Bench, measure_eager, measure_file
from export.parity.compare import check_parity
from export.parity.inputs import make_inputs
from export.parity.reference import Reference, compute_reference
from export.parity.report import ParityReport, ParityRow
from export.parity.stored import read_test_data
from export.runtime.opening import open_onnx
from export.spec import ExportSpec
from zoo.errors import ExportError, ZooError
from zoo.factory.create import create_random
from zoo.factory.description import PretrainedCfg
from zoo.files.manifest import read_manifest
from zoo.files.processes import run_python
from zoo.files.provenance import package_versions

from .gpu import Context, Found

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ("convit", "conv_attention_vit", "alternet", "fcvit")
_QUICK = ("nano", "tiny", "alternet_18", "b12")
_BATCHES = (1, 2, 5)
_FILES = ("onnx/model.onnx", "onnx/model_fp16.onnx")
_TENSORRT = ("convit_nano.digits", "resnet_nano.digits")  # building an engine takes long


def bundled() -> list[str]:
    """Models whose weights ship with the package."""
    names = zoo.list_models(pretrained=True, with_tags=True)
    return [name for name in names if zoo.get_record(name).selected.bundled]


def random_models() -> list[str]:
    """Architectures that are measured with random weights of seed 0, as NAME.random."""
    names = (name for family in FAMILIES for name in zoo.list_models(family=family))
    return [name for name in names if name.endswith(_QUICK)]


def models() -> list[str]:
    """All names, NAME.random among them; those with trained weights first."""
    return [*bundled(), *(f"{name}.random" for name in random_models())]


def _build(name: str) -> Any:
    if name.endswith(".random"):
        return create_random(name.removesuffix(".random"), 0)
    return zoo.create_model(name, pretrained=True)


def export_all(context: Context) -> Found:
    """float32 and float16 files of every model, each by a process of its own."""
    cores = os.cpu_count() or 1
    threads = {**os.environ, "OMP_NUM_THREADS": "2"}

    def export(name: str) -> str:
        if context.over:
            return f"{name}: no time left"
        source = [name.removesuffix(".random"), *(["--init", "0"] if ".random" in name else [])]
        try:
            done = run_python(
                "-m", "zoo", "export", *source, "--out", str(context.exports / name), "--format",
                "onnx", "--format", "torchscript", "--precision", "float16", "--quiet", "--json",
                env=threads, capture_output=True, text=True, timeout=context.left,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"{name}: no time left"
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"{name}: {last}" if done.returncode else ""

    large_first = sorted(models(), key=lambda name: not name.endswith(".random"))
    with ThreadPoolExecutor(max(1, cores // 2)) as pool:
        failed = list(filter(None, pool.map(export, large_first)))
    for line in failed:
        context.say(line)
    return {"passed": not failed, "not_run": failed}


def _summary(name: str, rows: tuple[ParityRow, ...], proof: dict[str, Any]) -> Found:
    report = ParityReport(name, "", "", rows, proof, package_versions())
    return {
        "name": name, "passed": bool(report), "summary": report.summary(), "attestation": proof,
    }  # fmt: skip


def _all(context: Context, names: list[str], one: Any) -> Found:
    """`one` of every name until the time is over; errors of ours are results."""
    found, late = [], []
    for name in names:
        if context.over:
            late.append(name)
            continue
        context.say(name)
        try:
            found.append(_summary(name, *one(name)))
        except (ZooError, RuntimeError) as error:
            found.append({"name": name, "passed": False, "error": str(error)[:500]})
    passed = bool(found) and all(entry["passed"] for entry in found)
    return {"passed": passed, "models": found, "no_time_for": late}


def torch_parity(context: Context, names: list[str] | None = None) -> Found:
    """Eager float32 on the device against float64, TF32 off and on, and autocast to float16."""

    def one(name: str) -> tuple[tuple[ParityRow, ...], Found]:
        model, spec = _build(name), ExportSpec(batches=_BATCHES)
        cfg = PretrainedCfg.of(model)
        if cfg is None:
            raise ExportError(f"{name} does not say what its input is")
        reference = compute_reference(model, make_inputs(cfg.input), _BATCHES)
        rows: tuple[ParityRow, ...] = ()
        for tf32 in (False, True):
            bench = Bench(
                context.exports, None, context.device, tf32, spec, (), model, (reference,)  # type: ignore[arg-type]
            )  # fmt: skip
            rows += measure_eager(bench)[0]
        if context.device == "cuda":
            rows += _autocast(model, reference, spec)
        return rows, {}

    return _all(context, models() if names is None else names, one)


def _autocast(model: Any, reference: Reference, spec: ExportSpec) -> tuple[ParityRow, ...]:
    import torch

    moved = model.eval().float().cuda()

    def run(batch: Any) -> Any:
        with torch.inference_mode(), torch.autocast("cuda", torch.float16):
            return moved(torch.from_numpy(batch).cuda()).float().cpu().numpy()

    return check_parity(run, reference, "eager, autocast", "torch-cuda", spec, precision="float16")


def onnx_parity(context: Context, names: list[str] | None = None) -> Found:
    """Every file on the CUDA provider, bound to the device: TF32 off and on, float16, and float32
    as a CUDA graph. With `device` "cpu" on the CPU provider, without the graph.
    """

    def one(name: str) -> tuple[tuple[ParityRow, ...], Found]:
        rows, proofs = _run_files(context, name, context.device, (False, True))
        if context.device == "cuda":
            rows += _as_cuda_graph(context.exports / name)
        return rows, proofs

    return _all(context, models() if names is None else names, one)


def tensorrt_parity(context: Context) -> Found:
    """float32 and float16 files of two small models on TensorRT."""
    return _all(
        context, list(_TENSORRT), lambda name: _run_files(context, name, "tensorrt", (False,))
    )


def _run_files(
    context: Context, name: str, provider: str, tf32: tuple[bool, ...]
) -> tuple[tuple[ParityRow, ...], Found]:
    home = context.exports / name
    manifest, stored = read_manifest(home), read_test_data(home)
    rows: tuple[ParityRow, ...] = ()
    proofs: Found = {}
    for allowed in tf32:
        spec = ExportSpec(batches=_BATCHES)
        bench = Bench(home, manifest, provider, allowed, spec, ("all",), None, (stored,))
        for file in _FILES:
            if file in manifest.paths:
                made, proofs[f"{file}{', TF32' if allowed else ''}"] = measure_file(bench, file)
                rows += made
    return rows, proofs


def _as_cuda_graph(home: Path) -> tuple[ParityRow, ...]:
    session = open_onnx(home / _FILES[0], "cuda", tf32=False, cuda_graph=True)
    reference, spec = read_test_data(home), ExportSpec(batches=_BATCHES)
    file = f"{_FILES[0]}, CUDA graph"
    return check_parity(session.run, reference, file, session.provider, spec)


def attention(context: Context) -> Found:
    """GPSA and convolutional attention beside timm, plain attention, FlexAttention and unfold."""
    from .gpu_attention import Case, cases, compare_sides

    found: list[Found] = []
    late: list[str] = []
    todo: Iterator[Case] = cases(context.device)
    for case in todo:
        if context.over:
            late.append(case.name)
            continue
        context.say(case.name)
        found.append(compare_sides(case, context.device))
    agree = all(side["agrees"] for entry in found for side in entry["sides"])
    return {"passed": bool(found) and agree, "cases": found, "no_time_for": late}


def training(context: Context, updates: int = 8) -> Found:
    """Steps of the training loop's own learner in float32 and with automatic mixed precision."""
    from .gpu_training import PRECISIONS, train_steps

    large = context.device == "cuda"
    names = ("convit_tiny", "conv_attention_vit_tiny") if large else ("convit_nano",)
    batch = 64 if large else 8
    rows, late = [], []
    for name in names:
        for precision in PRECISIONS[context.device]:
            if context.over:
                late.append(f"{name}, {precision}")
                continue
            context.say(f"{name}, {precision}")
            rows.append(train_steps(name, precision, context.device, batch, updates))
    passed = bool(rows) and all(row["passed"] for row in rows)
    return {"passed": passed, "rows": rows, "no_time_for": late}


def tests(context: Context) -> Found:
    """The tests marked `cuda`, on the files that were exported already."""
    report, home = context.exports / "tests.xml", str(context.exports)
    env = {**os.environ, "CONVATTN_REQUIRE_CUDA": "1", "CONVATTN_CUDA_EXPORTS": home}
    done = run_python(
        "-m", "pytest", "-q", "-m", "cuda and not slow", "-n", "4", "--junitxml", str(report),
        "tests", cwd=ROOT, env=env, capture_output=True, text=True, timeout=context.left,
    )  # fmt: skip
    suite = ElementTree.parse(report).getroot().find("testsuite")
    keys = ("tests", "failures", "errors", "skipped")
    counts = {} if suite is None else {key: int(suite.get(key, 0)) for key in keys}
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    ran = counts.get("tests", 0) > counts.get("skipped", 0)
    return {"passed": done.returncode == 0 and ran, **counts, "failed": failed[:50]}
