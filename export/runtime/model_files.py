"""Read an ONNX file into memory and say, before a runtime sees it, why it cannot or must not run.

External data are read here too, from plain regular files beside the model: onnxruntime follows hard
links and cuts names at a NUL (measured with onnxruntime 1.31), so that a foreign model could read
any file as its weights.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import IntegrityError, ModelFileError, ZooError
from zoo.files.listed import read_listed

from .wire import ModelFacts, read_model_facts

# domains whose operators onnxruntime brings itself
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
# they take one scale over the whole batch
_OVER_BATCH = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
# a few bytes of input make them write or compute without bound
UNBOUNDED = frozenset({"ConstantOfShape", "Expand", "Range", "Tile", "Resize", "Upsample"})


@dataclass(frozen=True)
class ModelFile:
    """A model in memory.

    Args:
        name: for messages.
        data: the bytes of the file; what was hashed is what runs.
        facts: what it is made of.
        external: bytes of its external data, by location.
    """

    name: str
    data: bytes
    facts: ModelFacts
    external: dict[str, bytes]


def read_model(path: str | Path, sha256: str | None = None) -> ModelFile:
    """Read and check an ONNX file.

    Args:
        sha256: expected digest.
    Raises: IntegrityError (another digest; code "external_data": data outside the folder, behind a
        link, or not a file), ModelFileError (not ONNX; operators that need a plug-in),
        NotFoundError, ResourceError.
    """
    path = Path(path)
    data = read_listed(path, "ONNX file", sha256)
    try:
        facts = read_model_facts(data)
    except IntegrityError:
        raise ModelFileError(
            f"{path.name} cannot be opened: not an ONNX model, or damaged ({len(data)} bytes); "
            "export it again",
            code="not_onnx",
        ) from None
    known = KNOWN_DOMAINS | {domain for domain, _ in facts.functions}
    foreign = sorted(ascii(f"{d}.{op}"[:80])[1:-1] for d, op in facts.operators if d not in known)
    if foreign:
        raise ModelFileError(
            f"{path.name} needs operators that onnxruntime does not have: "
            f"{', '.join(foreign[:5])}; export it with standard operators only",
            code="custom_operator",
        )
    external = {name: _read_external(path, name) for name in facts.external}
    return ModelFile(path.name, data, facts, external)


def _read_external(model: Path, location: str) -> bytes:
    """External data from a plain file beside the model. Raises: IntegrityError."""
    if location in ("", ".", "..") or re.search(r"[/\\:\0]", location):
        raise _outside(model, location, "is not a plain file name")
    path = model.parent / location
    try:
        found = os.lstat(path)
    except OSError:
        raise _outside(model, location, "does not exist beside the model") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "is a link" if stat.S_ISLNK(found.st_mode) else "is not a regular file"
        raise _outside(model, location, kind)
    if found.st_nlink != 1:
        raise _outside(model, location, "has a second name (a hard link)")
    if os.path.samefile(path, model):
        raise _outside(model, location, "is the model itself")
    return read_listed(path, "external data")


def _outside(model: Path, location: str, why: str) -> IntegrityError:
    shown = location.encode("unicode_escape").decode()[:60]
    return IntegrityError(
        f"{model.name} keeps weights in {shown!r}, which {why}; external data must be a file of "
        "its own beside the model. Export it again as one file",
        code="external_data",
    )


def is_dynamic_int8(model: ModelFile) -> bool:
    """Whether values are quantised as they come, so that neighbours in a batch change answers."""
    return any(operator in _OVER_BATCH for _, operator in model.facts.operators)


def require_bounded(model: ModelFile) -> None:
    """Refuse what can run without end or fill the memory. Raises: ModelFileError."""
    operators = {op for _, op in model.facts.operators}
    found = sorted(operators & (CONTROL_FLOW | UNBOUNDED))
    if found:
        raise ModelFileError(
            f"{model.name} is untrusted and has operators without a static bound: "
            f"{', '.join(found)}; ask for an export without them, or open it as trusted",
            code="unbounded",
        )


def explain(error: Exception, model: ModelFile, version: str) -> ZooError:
    """Why onnxruntime refused a model, in our words: its own name files of its build."""
    text = str(error)
    opset = max((v for d, v in model.facts.opsets.items() if d in ("", "ai.onnx")), default=0)
    limits = (
        (r"till opset (\d+)", "opset", f"uses opset {opset}", "opset"),
        (r"max supported IR version: (\d+)", "IR version",
         f"has IR version {model.facts.ir_version}", "ir_version"),
    )  # fmt: skip
    for pattern, what, has, code in limits:
        match = re.search(pattern, text)
        if match:
            return ModelFileError(
                f"{model.name} {has}, onnxruntime {version} reads {what} up to {match[1]}; install "
                "a newer onnxruntime, or export it again",
                code=code,
            )
    name = r"([A-Za-z0-9_.]+)"
    unknown = rf"No Op registered for {name}|{name}(?:\(-?\d+\))? is not a registered"
    match = re.search(unknown, text)
    if match:
        return ModelFileError(
            f"{model.name} needs the operator {match[1] or match[2]}, which onnxruntime {version} "
            f"does not have at opset {opset}; export it with standard operators only",
            code="custom_operator",
        )
    match = re.search(rf"Could not find an implementation for {name}", text)
    if match:
        return ModelFileError(
            f"{model.name} needs {match[1]} of types that onnxruntime {version} computes on no "
            "processor; write that step of the model otherwise, and export it again",
            code="no_kernel",
        )
    return ModelFileError(
        f"onnxruntime {version} cannot open {model.name} ({type(error).__name__}): damaged, or "
        "inconsistent; export it again",
        code="not_onnx",
    )
