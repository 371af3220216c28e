"""Rows in files of 10,000, each written at once, so that a run that was stopped goes on: a folder
NAME.parquet, NAME.csv or NAME.jsonl with part-00000 and so on; _provenance.json in it says what
they are and where they come from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ...catalog.checked_json import Document, JsonError, conform, parse_json
from ...errors import ConfigError
from ...files.json_text import to_json
from ...files.local import (
    make_directory,
    read_regular_file,
    resource_error,
    sha256_bytes,
    write_bytes,
    write_text,
)
from .encoding import format_of
from .rows import PartFile
from .stores import is_remote
from .stream import PART_ROWS

PROVENANCE, LEDGER = "_provenance.json", "_parts.log"
# what may differ between a run and the one that continues it
_FREE = ("command", "result")
# parts of such a run hold no error, whatever the one that continues it does with errors
_MENDED = ("on_unreadable", "stop")


class _Part(TypedDict):
    file: str
    rows: int
    unreadable: int
    sha256: str


_PROVENANCE = Document(
    dict[str, Any], "_provenance.json of rows", "provenance", "write anew with --overwrite"
)


@dataclass(frozen=True)
class Parts:
    """A folder of parts.

    Args:
        folder: whose suffix is the format of the parts.
        kept: parts of an earlier run that are whole, by number.
        notes: what was found of that run, a line each.
    """

    folder: Path
    kept: Mapping[int, _Part]
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> Iterator[tuple[int, int | None]]:
        """Ranges of parts to compute: first, and the one after the last; None: until the source
        ends.
        """
        first = 0
        for number in sorted(self.kept):
            if number > first:
                yield first, number
            first = number + 1
            if self.kept[number]["rows"] < PART_ROWS:
                return
        yield first, None

    def write(self, part: PartFile) -> _Part:
        """Write a part and note it. Raises: ResourceError."""
        file = f"part-{part.number:05}{self.folder.suffix}"
        write_bytes(self.folder / file, part.data)
        note = _Part(
            file=file, rows=part.rows, unreadable=part.unreadable, sha256=sha256_bytes(part.data)
        )
        try:
            with open(self.folder / LEDGER, "a", encoding="utf-8") as ledger:
                ledger.write(to_json(note) + "\n")
        except OSError as error:
            raise resource_error(error, self.folder / LEDGER) from None
        return note

    def finish(self, about: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Note what came of it. Raises: ResourceError."""
        write_text(self.folder / PROVENANCE, to_json({**about, "result": result}, indent=2) + "\n")


def open_parts(
    out: str | os.PathLike[str],
    about: Mapping[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Parts:
    """A folder to write parts into.

    Args:
        about: what makes the rows: model, weights, source, options; JSON values.
        resume: keep the parts of an earlier run of the same that are whole.
        overwrite: begin anew.
    Raises: ConfigError: another suffix, or a file is there ("out"); something is there and neither
        was asked for ("finished"), or what is there comes from something else ("another_run");
        ResourceError.
    """
    rows = check_place(out, resume=resume, overwrite=overwrite)
    folder = Path(out)
    if rows and resume:
        return _resumed(folder, about)
    if (folder / PROVENANCE).is_file():
        _remove(folder)
    make_directory(folder)
    write_text(folder / PROVENANCE, to_json(about, indent=2) + "\n")
    return Parts(folder, {})


def check_place(out: str | os.PathLike[str], *, resume: bool, overwrite: bool) -> bool:
    """Whether a folder holds rows of ours. Raises: ConfigError, as `open_parts` ("out",
    "finished").
    """
    if is_remote(os.fspath(out)):
        raise ConfigError(
            f"--out is a folder on this machine or a drive of it; got {os.fspath(out)!r}: write "
            "here, and copy the folder",
            code="out",
        )
    folder = Path(out)
    format_of(folder)
    if os.path.lexists(folder) and not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is a file; --out names a folder of rows", code="out")
    if not folder.is_dir() or all(name.startswith(".") for name in os.listdir(folder)):
        return False
    _check_ours(folder)
    rows = bool(_noted(folder / LEDGER))
    if rows and not (resume or overwrite):
        raise ConfigError(
            f"{str(folder)!r} holds rows already; go on with --resume, begin anew with "
            "--overwrite, or choose another --out",
            code="finished",
        )
    return rows


def _check_ours(folder: Path) -> None:
    if not (folder / PROVENANCE).is_file():
        raise ConfigError(
            f"{str(folder)!r} has files and no {PROVENANCE}: nothing that convattn wrote; choose "
            "another --out",
            code="out",
        )


def _remove(folder: Path) -> None:
    """Take away rows; the note that they are ours goes last."""
    try:
        for path in sorted(folder.iterdir()):
            if path.name.startswith("part-") or path.name == LEDGER:
                path.unlink()
        (folder / PROVENANCE).unlink()
    except OSError as error:
        raise resource_error(error, folder) from None


def _resumed(folder: Path, about: Mapping[str, Any]) -> Parts:
    stated = _PROVENANCE.read(folder / PROVENANCE)
    then, now = _flat(stated), _flat(json.loads(to_json(about)))
    changed = [
        f"{key} was {str(then.get(key))[:60]}, is {str(now.get(key))[:60]}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key) and (key, then.get(key)) != _MENDED
    ]
    if changed:
        raise ConfigError(
            f"{str(folder)!r} holds rows of something else: {'; '.join(changed[:2])}. Begin anew "
            "with --overwrite, or choose another --out",
            code="another_run",
        )
    kept, notes = {}, []
    for number, part in _noted(folder / LEDGER).items():
        if _is_whole(folder, part):
            kept[number] = part
        else:
            notes.append(f"{part['file']} is not as it was written; its rows are computed again")
    if kept:
        rows = sum(part["rows"] for part in kept.values())
        notes.insert(0, f"{rows} rows in {len(kept)} parts are there already")
    return Parts(folder, kept, tuple(notes))


def _noted(ledger: Path) -> dict[int, _Part]:
    """Parts by number; the last note of each counts, a line that was cut off does not."""
    found: dict[int, _Part] = {}
    if not ledger.is_file():
        return found
    for line in read_regular_file(ledger, "list of parts").decode(errors="replace").splitlines():
        try:
            part: _Part = conform(_Part, parse_json(line))
            found[int(part["file"][5:10])] = part
        except (JsonError, ValueError):
            continue
    return found


def _is_whole(folder: Path, part: _Part) -> bool:
    path = folder / Path(part["file"]).name
    return path.is_file() and sha256_bytes(read_regular_file(path)) == part["sha256"]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if prefix or key not in _FREE:
            inner = isinstance(value, dict)
            found |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found
