"""Is this file a checkpoint, whole, and harmless? Judged from its bytes alone. No torch.

The kind of file, the members and checksums of the archive, what its pickle asks for, and every
storage and view that it declares (`pickle_scan`, `verdict`).
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import IntegrityError, WeightsFileError
from ...files.local import wrong_kind
from ..safetensors_file import MAX_HEADER_BYTES, MAX_TENSORS
from .pickle_scan import scan
from .values import Made, Report
from .verdict import judge

MAX_PICKLE_BYTES = 16 << 20
_MAGIC = 0x1950A86A20F9469CFC6C  # starts files from before PyTorch 1.6
_END_BYTES = 22  # of the record that ends an archive without a comment
_KINDS = (
    (0, b"\x89HDF", "an HDF5 file (Keras?)"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (0, b"BZh", "a bzip2 archive; unpack it"),
    (0, b"\xfd7zXZ", "an xz archive; unpack it"),
    (257, b"ustar", "a tar archive (PyTorch before 0.1.10?); unpack it or save it anew"),
)


@dataclass(frozen=True)
class Opened:
    """A checkpoint that passed.

    Args:
        kind: "torch zip", "torch legacy" or "safetensors"; of the last nothing else is known here.
        root: what was saved: `values.Made` and `View` instead of objects.
        numbers: key of a storage -> its bytes.
        dropped: names of harmless classes and functions that it mentions.
        has_module: whether a module was pickled with the source of its class.
    """

    kind: str
    root: Any = None
    numbers: Mapping[str, memoryview] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    has_module: bool = False


def open_checkpoint(data: bytes, what: str) -> Opened:
    """Judge a checkpoint held in memory.

    Args:
        what: what error messages call it.
    Raises: WeightsFileError (another kind of file, carries code, not a state dict, ...),
        IntegrityError (cut short, or a checksum differs).
    """
    if not data:
        raise IntegrityError(f"{what} is empty; download it again", code="truncated")
    if data[:4] == b"PK\x03\x04":
        return _open_zip(data, what)
    if data[:1] == b"\x80" and not _starts_like_safetensors(data):
        return _open_legacy(data, what)
    _refuse_other_kinds(data, what)
    return Opened("safetensors")


def _starts_like_safetensors(data: bytes) -> bool:
    """Whether a length and a JSON object follow each other; the length may begin like a pickle."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= MAX_HEADER_BYTES


def _refuse_other_kinds(data: bytes, what: str) -> None:
    """Name files that are neither; safetensors' own reader explains the rest."""
    found = (kind for at, magic, kind in _KINDS if data[at : at + len(magic)] == magic)
    kind = next(found, "") or ("" if data[8:9] == b"{" else wrong_kind(data))
    if kind:
        raise WeightsFileError(
            f"{what} is {kind}; expected a PyTorch or safetensors file", code="wrong_kind"
        )


def _scan(stream: io.BytesIO, report: Report, what: str) -> Report:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in a text
            return scan(stream, report)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        judge(report, what)  # what it asked for so far explains more, if it does
        if stream.tell() >= MAX_PICKLE_BYTES:
            raise WeightsFileError(
                f"{what} has a pickle of more than {MAX_PICKLE_BYTES} bytes, too many for a state "
                "dict; save model.state_dict() alone",
                code="limit",
            ) from None
        if any(text in str(error) for text in ("exhausted", "remain", "not enough data")):
            raise IntegrityError(
                f"{what} is cut short inside its pickle; download it again", code="truncated"
            ) from None
        raise WeightsFileError(
            f"{what} holds a malformed pickle ({str(error)[:80]}); download it again",
            code="malformed",
        ) from None


def _open_zip(data: bytes, what: str) -> Opened:
    """Members, checksums, pickle and storages of a file from torch.save."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _check_members(archive, data, what)
            folder = next(iter(members)).partition("/")[0]
            pickle_bytes = archive.read(f"{folder}/data.pkl")
            order = archive.read(f"{folder}/byteorder") if f"{folder}/byteorder" in members else b""
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        if isinstance(error, WeightsFileError):
            raise
        raise IntegrityError(
            f"{what} is a damaged or cut zip archive ({str(error)[:80]}); download it again",
            code="truncated",
        ) from None
    if damaged is not None:
        raise IntegrityError(
            f"{what}: the checksum of {damaged[:80]!a} differs, so the file was damaged; download "
            "it again",
            code="checksum",
        )
    report = _scan(io.BytesIO(pickle_bytes), Report(), what)
    dropped = judge(report, what)
    _require_little_endian(order in (b"", b"little"), what)
    numbers = {}
    for storage in report.storages.values():
        info = members.get(f"{folder}/data/{storage.key}")
        found = b"" if info is None else _content(data, info)
        if len(found) != storage.size_bytes:
            raise WeightsFileError(
                f"{what} declares a storage of {storage.size_bytes} bytes and holds {len(found)}; "
                "download it again",
                code="malformed",
            )
        numbers[storage.key] = memoryview(found)
    return Opened("torch zip", report.result, numbers, dropped)


def _content(data: bytes, info: zipfile.ZipInfo) -> memoryview:
    """The bytes of a stored member, in place; `testzip` has read it."""
    first = info.header_offset
    name, extra = (int.from_bytes(data[first + at : first + at + 2], "little") for at in (26, 28))
    start = first + 30 + name + extra
    return memoryview(data)[start : start + info.file_size]


def _require_little_endian(little: bool, what: str) -> None:
    if not little:
        raise WeightsFileError(
            f"{what} was written on a big-endian machine; save it on another, or as safetensors",
            code="unsupported_format",
        )


def _check_members(archive: zipfile.ZipFile, data: bytes, what: str) -> dict[str, zipfile.ZipInfo]:
    """The members by name, after checking that torch.save can have written them."""
    members = archive.infolist()
    _check_layout({info.filename for info in members}, what)
    names = {info.filename.casefold() for info in members}
    problem = ""
    if len(members) > MAX_TENSORS:
        problem = f"holds {len(members)} members; at most {MAX_TENSORS} are read"
    elif any(info.compress_type != zipfile.ZIP_STORED for info in members):
        problem = "has compressed members, which torch.save never writes"
    elif len(names) != len(members):
        problem = "has two members of one name"
    elif archive.comment or any(info.flag_bits & 1 for info in members):
        problem = "has a comment or encrypted members"
    elif min((info.header_offset for info in members), default=0) != 0:
        problem = "has something in front of its first member"
    elif data[-_END_BYTES:][:4] != b"PK\x05\x06":
        problem = "has something after its end"
    elif sum(info.file_size for info in members) > len(data):
        problem = "has members that overlap"
    if problem:
        raise WeightsFileError(f"{what} {problem}; it was refused", code="archive")
    largest = max(info.file_size for info in members if info.filename.endswith("/data.pkl"))
    if largest > MAX_PICKLE_BYTES:
        raise WeightsFileError(
            f"{what} has a pickle of {largest} bytes; at most {MAX_PICKLE_BYTES} are read",
            code="limit",
        )
    return {info.filename: info for info in members}


def _check_layout(names: set[str], what: str) -> None:
    folders = {name.partition("/")[0] for name in names}
    folder = next(iter(folders), "")
    if any(name.startswith((f"{folder}/code/", f"{folder}/constants.pkl")) for name in names):
        raise WeightsFileError(
            f"{what} is a TorchScript archive, which is code. Where it was made, run "
            'torch.save(model.state_dict(), "state.pth"), and import that file',
            code="unsupported_format",
        )
    if len(folders) != 1 or f"{folder}/data.pkl" not in names:
        raise WeightsFileError(
            f"{what} is a zip archive that torch.save did not write; unpack it and import the "
            "checkpoint inside",
            code="wrong_kind",
        )


def _open_legacy(data: bytes, what: str) -> Opened:
    """Pickles and storages of a file from before PyTorch 1.6: five pickles, then raw numbers."""
    stream = io.BytesIO(data[:MAX_PICKLE_BYTES])
    report = _scan(stream, Report(), what)
    if report.result != _MAGIC:
        judge(report, what)
        raise WeightsFileError(
            f"{what} is a Python pickle that torch.save did not write. Where it was made, run "
            'torch.save(state_dict, "state.pth"), and import that file',
            code="wrong_kind",
        )
    results = []
    for _ in range(4):
        report = _scan(stream, report, what)
        dropped = judge(report, what)
        results.append(report.result)
    _, system, root, listed = results
    facts = dict(p for p in system.pairs() if isinstance(p[0], str)) if _is_dict(system) else {}
    _require_little_endian(facts.get("little_endian", True) is True, what)
    keys = listed.items if isinstance(listed, Made) else []
    if sorted(map(str, keys)) != sorted(report.storages):
        raise WeightsFileError(
            f"{what} does not list the storages that it uses; download it again", code="malformed"
        )
    needed = stream.tell() + sum(8 + storage.size_bytes for storage in report.storages.values())
    if needed != len(data):
        raise IntegrityError(
            f"{what} has {len(data)} bytes, its tensors need {needed}; download it again",
            code="truncated" if needed > len(data) else "integrity",
        )
    numbers, place = {}, stream.tell()
    for key in map(str, keys):
        storage = report.storages[key]
        if int.from_bytes(data[place : place + 8], "little") != storage.items:
            raise WeightsFileError(
                f"{what} states two lengths for one storage; download it again", code="malformed"
            )
        numbers[key] = memoryview(data)[place + 8 : place + 8 + storage.size_bytes]
        place += 8 + storage.size_bytes
    return Opened("torch legacy", root, numbers, dropped, report.has_module)


def _is_dict(value: Any) -> bool:
    return isinstance(value, Made) and value.kind == "dict"
