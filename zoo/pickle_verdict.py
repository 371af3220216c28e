"""Judge what `zoo.pickle_scan` found: plain tensors, or a reason to refuse the file. No torch."""

from __future__ import annotations

from collections.abc import Collection

from .errors import WeightsFileError
from .pickle_scan import PLAIN, Report

_CODE_MODULES = frozenset(
    "os posix nt sys subprocess builtins __builtin__ importlib runpy shutil socket pty commands io "
    "_io webbrowser code codeop pickle _pickle marshal ctypes operator _operator functools types "
    "asyncio multiprocessing threading tempfile ssl pdb pip timeit cProfile profile bdb".split()
)
_CODE_NAMES = (
    *("torch.hub.", "torch.jit.", "torch.load", "torch.serialization.load", "torch.ops."),
    *("torch.storage._load_from_bytes", "torch.utils.", "torch.package.", "torch._C."),
    *("torch.from_file", "torch.classes.", "torch.distributed.", "numpy.testing."),
)
_DATA_BUILTINS = {"set", "frozenset", "complex", "bytearray", "object", "slice", "range"}
_TENSOR_KINDS = {
    "qtensor": "quantised tensors; call .dequantize() on them",
    "sparse": "sparse tensors; call .to_dense() on them",
    "meta_tensor": "tensors on the meta device, which have no values; load them before saving",
    "nested": "nested tensors; save them one by one",
    "from_type_v2": "tensors of a subclass; call .as_subclass(torch.Tensor) on them",
    "wrapper_subclass": "tensors of a subclass; call .as_subclass(torch.Tensor) on them",
}


def judge(report: Report, what: str, allowed: Collection[str]) -> tuple[str, ...]:
    """Refuse what is not a file of plain tensors; return the harmless names that will be dropped.

    Raises: WeightsFileError with code unsafe_code, not_state_dict, tensor_kind, unlisted_global,
        pickle_protocol or malformed.
    """
    foreign = sorted(report.names - PLAIN - set(allowed))
    code = [name for name in foreign if _is_code(name)]
    if code:
        raise WeightsFileError(
            f"{what} carries code: its pickle names {_some(code)}. It was refused and nothing of "
            "it was run; do not open it by other means, and get the weights from a trusted place",
            code="unsafe_code",
        )
    if report.has_module or any(name.startswith("torch.nn.modules.") for name in foreign):
        raise WeightsFileError(
            f"{what} is a whole pickled module, not a state dict. Where its class can be imported, "
            'run torch.save(model.state_dict(), "state.pth"), and import that file',
            code="not_state_dict",
        )
    _judge_tensors(what, foreign)
    if foreign:
        raise WeightsFileError(
            f"{what} holds objects besides tensors: {_some(foreign)}. Nothing of it was run. Where "
            'it was made, run torch.save(checkpoint["state_dict"], "state.pth"), and import that '
            "file",
            code="unlisted_global",
        )
    if report.opcode:
        raise WeightsFileError(
            f"{what} was pickled with a protocol other than PyTorch's own 2 (it uses "
            f"{report.opcode}); where it was made, save it with torch.save's default protocol",
            code="pickle_protocol",
        )
    if report.problem:
        raise WeightsFileError(f"{what} {report.problem}; it was refused", code="malformed")
    return tuple(sorted(report.names & set(allowed)))


def _judge_tensors(what: str, foreign: list[str]) -> None:
    for name in foreign:
        if not name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")):
            continue
        reason = next((text for part, text in _TENSOR_KINDS.items() if part in name), "")
        reason = reason or f"tensors of an unusual kind ({name})"
        raise WeightsFileError(
            f"{what} holds {reason}, save the file again and import that", code="tensor_kind"
        )


def _is_code(name: str) -> bool:
    root, _, rest = name.partition(".")
    if root == "builtins":
        return rest not in _DATA_BUILTINS
    return root in _CODE_MODULES or name.startswith(_CODE_NAMES)


def _some(names: list[str]) -> str:
    shown = ", ".join(ascii(name[:60])[1:-1] for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
