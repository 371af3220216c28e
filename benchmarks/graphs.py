"""ONNX files of ours and of the peers, each written when it is first asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from export.formats.capture import quiet, root_cause
from export.formats.metadata import describe
from export.runtime.opening import open_onnx
from export.spec import INPUT_NAME, OUTPUT_NAME, ExportSpec
from export.speed.forms import write_unverified_onnx
from export.speed.timing import Run, Say
from zoo.errors import ConfigError, ExportError

from .peers import plain_fcvit, plain_vit, timm_convit, unfolded

SPEC = ExportSpec()


@dataclass
class Graphs:
    """A folder of exported files, each made when it is first asked for.

    Names: MODEL[:KEYWORD=INT ...] exported by us, and the peers "timm", "vit" (`:img_size=...`),
    "unfold" (`:kernel_size=...`), "plain-fcvit".

    Args:
        folder: where the files go.
        threads: of ONNX Runtime.
        say: told what is being exported.
        seconds: name -> export time.
    """

    folder: Path
    threads: int = 1
    say: Say = lambda _: None
    seconds: dict[str, float] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """The file of a name. Raises: ExportError, MissingDependencyError."""
        path = self.folder / f"{name.replace(':', '-').replace('=', '-')}.onnx"
        if not path.exists():
            self.say(f"exporting {name}")
            tick = time.perf_counter()
            write_graph(name, path)
            self.seconds[name] = time.perf_counter() - tick
        return path

    def run(self, name: str, px: int, batch: int = 1) -> Run:
        """A function that runs a file once on noise."""
        import numpy as np

        session = open_onnx(self.path(name), threads=self.threads)
        generator = np.random.Generator(np.random.PCG64(0))
        x = generator.standard_normal((batch, 3, px, px), dtype=np.float32)
        return lambda: session.run(x)


def write_graph(name: str, path: Path) -> None:
    """Build the model of a name with random weights and export it."""
    from zoo.factory.create import create_random

    kind, _, rest = name.partition(":")
    keywords = {key: int(value) for key, _, value in (p.partition("=") for p in rest.split() if p)}
    px = keywords.get("img_size", 224)
    if kind == "timm":
        timm_export(timm_convit(random_convit(px), px), path, px)
    elif kind == "unfold":
        plain_export(unfolded(create_random("conv_attention_vit_tiny", 0, **keywords)), path, px)
    elif kind == "plain-fcvit":
        plain_export(plain_fcvit(create_random("fcvit_b12", 0)), path, px)
    elif kind == "vit":
        our_export(plain_vit(px), path, px)
    elif kind == "convit_tiny":
        our_export(random_convit(px), path, px)
    else:
        our_export(create_random(kind, 0, **keywords), path, px)


def random_convit(px: int) -> Any:
    """convit_tiny with random positions (see `subjects`)."""
    from zoo.factory.create import create_random

    return create_random("convit_tiny", 0, img_size=px, use_local_init=False)


def our_export(model: Any, path: Path, px: int) -> None:
    """Export as `convattn export` does, without the parity check."""
    cfg = describe(model)
    write_unverified_onnx(model, path, replace(cfg, input=replace(cfg.input, size=(px, px))), SPEC)


def plain_export(model: Any, path: Path, px: int) -> None:
    """Export by torch's dynamo exporter with its own optimiser, batch dynamic; nothing of ours."""
    import torch

    x = torch.zeros(2, 3, px, px)
    with quiet():
        torch.onnx.export(
            model.eval().requires_grad_(False),
            (x,),
            path,
            dynamo=True,
            opset_version=SPEC.opset,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            external_data=False,
            verbose=False,
        )


def timm_export(model: Any, path: Path, px: int, dynamic_size: bool = False) -> None:
    """Export by timm's own function at our opset. Raises: ExportError with its reason."""
    from timm.utils.onnx import onnx_export

    try:
        with quiet():
            onnx_export(
                model.requires_grad_(False),
                str(path),
                batch_size=2,
                input_size=(3, px, px),
                opset=SPEC.opset,
                dynamic_size=dynamic_size,
                use_dynamo=True,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
            )
    except Exception as error:  # whatever a foreign exporter raises is its answer
        raise ExportError(root_cause(error).rstrip(":")) from error


def count_nodes(path: Path) -> int:
    """Nodes of a graph as written, before the runtime's own fusions."""
    import onnx

    return len(onnx.load(path, load_external_data=False).graph.node)


def matmul_runs(size: int, threads: int) -> dict[str, Run]:
    """A float32 product of two square matrices, by torch and by ONNX Runtime."""
    import numpy as np
    import onnxruntime
    import torch
    from onnx import TensorProto, helper

    if size < 1:
        raise ConfigError(f"size must be positive; got {size}")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [size, size]) for n in "abc"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])], "sgemm", values[:2], values[2:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    generator = np.random.Generator(np.random.PCG64(0))
    a, b = (generator.standard_normal((size, size), dtype=np.float32) for _ in "ab")
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    return {
        "sgemm, torch": lambda: ta @ tb,
        "sgemm, ONNX Runtime": lambda: session.run(None, {"a": a, "b": b}),
    }
