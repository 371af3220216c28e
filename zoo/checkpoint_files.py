"""Is this file a checkpoint, whole, and harmless? Judged from its bytes alone. No torch.

The kind of file, the members and checksums of the archive, what its pickle asks for, and every
storage and view that it declares (`zoo.pickle_scan`).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection

from .errors import IntegrityError, WeightsFileError
from .pickle_scan import Report, scan
from .pickle_verdict import judge
from .weights import MAX_HEADER_BYTES, MAX_TENSORS, wrong_kind

MAX_PICKLE_BYTES = 16 << 20
MAX_GROWTH = 4  # bytes of all tensors together, per byte of the file
_MAGIC = 0x1950A86A20F9469CFC6C  # starts files from before PyTorch 1.6
_KINDS = (
    (0, b"\x89HDF", "an HDF5 file (Keras?)"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (0, b"BZh", "a bzip2 archive; unpack it"),
    (0, b"\xfd7zXZ", "an xz archive; unpack it"),
    (257, b"ustar", "a tar archive (PyTorch before 0.1.10?); unpack it or save it anew"),
)


def check_file(data: bytes, what: str, allowed: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """Judge a checkpoint held in memory.

    Args:
        what: what error messages call it.
        allowed: names in its pickle that stand for harmless metadata.
    Returns: "torch zip", "torch legacy" or "safetensors", and the allowed names that it has.
    Raises: WeightsFileError (another kind of file, carries code, not a state dict, ...),
        IntegrityError (cut short, or a checksum differs).
    """
    if not data:
        raise IntegrityError(f"{what} is empty; download it again", code="truncated")
    if data[:4] == b"PK\x03\x04":
        kind, report = "torch zip", _check_zip(data, what, allowed)
    elif data[:1] == b"\x80" and not _starts_like_safetensors(data):
        kind, report = "torch legacy", _check_legacy(data, what, allowed)
    else:
        _refuse_other_kinds(data, what)
        return "safetensors", ()
    if report.view_bytes > MAX_GROWTH * len(data):
        raise WeightsFileError(
            f"{what} has {len(data)} bytes, but its tensors would fill {report.view_bytes}: they "
            "repeat one memory many times; save .contiguous() copies of what is needed",
            code="limit",
        )
    return kind, judge(report, what, allowed)


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


def _scan(stream: io.BytesIO, report: Report, what: str, allowed: Collection[str]) -> Report:
    try:
        return scan(stream, report)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        judge(report, what, allowed)  # what it asked for so far explains more, if it does
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


def _check_zip(data: bytes, what: str, allowed: Collection[str]) -> Report:
    """Members, checksums, pickle and storages of a file from torch.save."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = _check_members(archive, data, what)
            folder = next(iter(sizes)).partition("/")[0]
            pickle_bytes = archive.read(f"{folder}/data.pkl")
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
            f"{what}: the checksum of {damaged!a} differs, so the file was damaged; download "
            "it again",
            code="checksum",
        )
    report = _scan(io.BytesIO(pickle_bytes), Report(), what, allowed)
    judge(report, what, allowed)
    for storage in report.storages.values():
        found = sizes.get(f"{folder}/data/{storage.key}", -1)
        if found != storage.size_bytes:
            raise WeightsFileError(
                f"{what} declares a storage of {storage.size_bytes} bytes and holds "
                f"{max(found, 0)}; download it again",
                code="malformed",
            )
    return report


def _check_members(archive: zipfile.ZipFile, data: bytes, what: str) -> dict[str, int]:
    """Name -> size of the members, after checking that torch.save can have written them."""
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
    elif sum(info.file_size for info in members) > len(data):
        problem = "has members that overlap"
    if problem:
        raise WeightsFileError(f"{what} {problem}; it was refused", code="archive")
    sizes = {info.filename: info.file_size for info in members}
    largest = max(size for name, size in sizes.items() if name.endswith("/data.pkl"))
    if largest > MAX_PICKLE_BYTES:
        raise WeightsFileError(
            f"{what} has a pickle of {largest} bytes; at most {MAX_PICKLE_BYTES} are read",
            code="limit",
        )
    return sizes


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


def _check_legacy(data: bytes, what: str, allowed: Collection[str]) -> Report:
    """Pickles and storages of a file from before PyTorch 1.6: five pickles, then raw numbers."""
    stream = io.BytesIO(data[:MAX_PICKLE_BYTES])
    report = _scan(stream, Report(), what, allowed)
    if report.result != _MAGIC:
        judge(report, what, allowed)
        raise WeightsFileError(
            f"{what} is a Python pickle that torch.save did not write. Where it was made, run "
            'torch.save(state_dict, "state.pth"), and import that file',
            code="wrong_kind",
        )
    for _ in range(4):
        report = _scan(stream, report, what, allowed)
        judge(report, what, allowed)
    listed = getattr(report.result, "items", None)
    if not isinstance(listed, list) or sorted(map(str, listed)) != sorted(report.storages):
        raise WeightsFileError(
            f"{what} does not list the storages that it uses; download it again", code="malformed"
        )
    needed = stream.tell() + sum(8 + storage.size_bytes for storage in report.storages.values())
    if needed != len(data):
        raise IntegrityError(
            f"{what} has {len(data)} bytes, its tensors need {needed}; download it again",
            code="truncated" if needed > len(data) else "integrity",
        )
    return report
