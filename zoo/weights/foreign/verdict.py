"""What a pickle names, judged: plain tensors, harmless company, or a reason to refuse. No torch.

Nothing of a pickle is ever run, so that a harmless object may be of any class. A name of code is
refused all the same: whoever put it there meant it to run elsewhere.
"""

from __future__ import annotations

from ...errors import WeightsFileError
from .values import PLAIN, Report

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
_TENSOR_FUNCTIONS = ("torch._C._nn.",)  # gelu and the like, as somebody's settings name them
_DATA = {
    *("set", "frozenset", "complex", "bytearray", "object", "slice", "range", "list", "dict"),
    *("tuple", "str", "bytes", "int", "float", "bool", "Ellipsis", "NotImplemented"),
    *("abs", "len", "max", "min", "round", "sum"),
}
_DATA = {f"builtins.{name}" for name in _DATA} | {"types.SimpleNamespace", "functools.partial"}
_DATA |= {"_io.BytesIO", "_io.StringIO"}
_TENSOR_KINDS = {
    "qtensor": "quantised tensors; call .dequantize() on them",
    "sparse": "sparse tensors; call .to_dense() on them",
    "meta_tensor": "tensors on the meta device, which have no values; load them before saving",
    "nested": "nested tensors; save them one by one",
    "from_type_v2": "tensors of a subclass; call .as_subclass(torch.Tensor) on them",
    "wrapper_subclass": "tensors of a subclass; call .as_subclass(torch.Tensor) on them",
}


def judge(report: Report, what: str) -> tuple[str, ...]:
    """Refuse what is not a file of plain tensors; return the names of what is dropped, in order.

    Raises: WeightsFileError with code unsafe_code or malformed.
    """
    foreign = sorted(report.names - PLAIN)
    code = [name for name in foreign if _is_code(name)]
    if code:
        raise WeightsFileError(
            f"{what} carries code: its pickle names {_some(code)}. It was refused and nothing of "
            "it was run; do not open it by other means, and get the weights from a trusted place",
            code="unsafe_code",
        )
    if report.problem:
        raise WeightsFileError(f"{what} {report.problem}; it was refused", code="malformed")
    return tuple(foreign)


def tensor_kind(name: str) -> str:
    """What kind of tensor it is that this function of torch's makes; "" if it makes none."""
    if not name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")):
        return ""
    known = next((text for part, text in _TENSOR_KINDS.items() if part in name), "")
    return known or f"tensors of an unusual kind ({name[:80]})"


def _is_code(name: str) -> bool:
    root = name.partition(".")[0]
    if name.startswith(_TENSOR_FUNCTIONS):
        return False
    return name not in _DATA and (root in _CODE_MODULES or name.startswith(_CODE_NAMES))


def _some(names: list[str]) -> str:
    shown = ", ".join(ascii(name[:40])[1:-1] for name in names[:2])
    return shown + (f" and {len(names) - 2} more" if len(names) > 2 else "")
