"""Every error that the zoo raises on purpose. One root, a stable `code`, and an exit status.

A message says what was wrong, what was received and what to do next. Each class also inherits the
builtin that a caller would expect (`LookupError`, `ValueError`, `OSError`), so plain `except`
works.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_MESSAGE = 300  # characters; a line or three in a terminal
_END = 110


def shorten(message: str) -> str:
    """`message` in at most `MAX_MESSAGE` characters: its beginning, which says what is wrong, and
    its end, which says what to do. What a terminal would obey instead of showing is written out.
    """
    if not message.isprintable():
        shown = (c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in message)
        message = "".join(shown)
    if len(message) <= MAX_MESSAGE:
        return message
    return f"{message[: MAX_MESSAGE - _END - 3]} … {message[-_END:]}"


class ZooError(Exception):
    """Root of the zoo's errors.

    Attributes:
        code: stable machine-readable name of the failure, e.g. ``"unknown_model"``.
        exit_code: exit status of the command line (2 usage, 3 bad input, 4 integrity, 5 network,
            6 resources, 7 export, parity or provider).
    """

    code = "error"
    exit_code = 3

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(shorten(message))
        if code is not None:
            self.code = code

    def __str__(self) -> str:  # LookupError children would otherwise quote the message
        return str(self.args[0]) if self.args else self.code


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: ``"; did you mean 'NEAREST'?"``, or "" if nothing
    known is near.
    """
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


class UnknownModelError(ZooError, LookupError):
    """A model, tag or version that the registry does not know."""

    code = "unknown_model"


class DuplicateNameError(ZooError, ValueError):
    """Two records claim the same name."""

    code = "duplicate_name"


class ConfigError(ZooError, ValueError):
    """An impossible or unknown constructor argument, or an invalid record."""

    code = "config"


class NoWeightsError(ZooError, LookupError):
    """Pretrained weights were asked for and none can be loaded."""

    code = "no_weights"


class IncompatibleWeightsError(ZooError, ValueError):
    """Weights made for another version of the architecture."""

    code = "incompatible_weights"


class WeightsFileError(ZooError, ValueError):
    """A weights file that is not a readable safetensors container."""

    code = "weights_file"


class WeightsMismatchError(ZooError, ValueError):
    """Tensors that do not fit the model: missing, unexpected, or of another shape."""

    code = "weights_mismatch"

    @classmethod
    def between(
        cls,
        what: str,
        missing: Iterable[str] = (),
        unexpected: Iterable[str] = (),
        wrong_shape: Iterable[str] = (),
    ) -> WeightsMismatchError:
        """Build the error from lists of names; the first of each are printed."""
        parts = [
            f"{len(names)} {label}: {_first(names)}"
            for label, names in (
                ("missing", sorted(missing)),
                ("unexpected", sorted(unexpected)),
                ("of another shape", sorted(wrong_shape)),
            )
            if names
        ]
        return cls(f"{what} does not fit the model; " + "; ".join(parts))


def _first(names: list[str], room: int = 60) -> str:
    """As many names as there is room for, at least the start of one; ASCII."""
    shown = [ascii(names[0])[1:-1][:room]]
    for name in names[1:]:
        if sum(map(len, shown)) + len(name) > room:
            return f"{', '.join(shown)} ..."
        shown.append(ascii(name)[1:-1])
    return ", ".join(shown)


class IntegrityError(ZooError, OSError):
    """Bytes that differ from their recorded SHA-256 or size, or a truncated file."""

    code = "integrity"
    exit_code = 4


class ImageError(ZooError, ValueError):
    """An image that cannot be read, or of an unusable kind."""

    code = "image"


class DatasetError(ZooError, ValueError):
    """A data set that is incomplete, damaged, or does not fit the model."""

    code = "dataset"


class DivergedError(ZooError, ArithmeticError):
    """The loss of a training run became NaN or infinite.

    Attributes:
        result: what the run had until then (`zoo.training.job.TrainingResult`), or None if not
            a single epoch was finished.
    """

    code = "diverged"
    result: object = None


class InputError(ZooError, ValueError):
    """An array or tensor of the wrong shape, dtype or range."""

    code = "input"


class AnalysisError(ZooError, ValueError):
    """A model, loader or setting that an analysis cannot work with."""

    code = "analysis"


class NetworkError(ZooError, OSError):
    """A remote file could not be fetched."""

    code = "network"
    exit_code = 5


class ResourceError(ZooError, OSError):
    """Disk full, directory not writable, or not enough memory."""

    code = "resource"
    exit_code = 6


class NotFoundError(ZooError, FileNotFoundError):
    """A file or folder that the caller named does not exist."""

    code = "not_found"


class MissingDependencyError(ZooError, ImportError):
    """A package is needed that is not installed; the message names it, or the extra."""

    code = "missing_dependency"
    exit_code = 3


class ParityError(ZooError, ArithmeticError):
    """An exported file is too far from its float64 reference."""

    code = "parity"
    exit_code = 7


class ProviderError(ZooError, RuntimeError):
    """The execution provider that was asked for did not run the graph."""

    code = "provider"
    exit_code = 7


class ExportError(ZooError, RuntimeError):
    """A model could not be written in the format asked for."""

    code = "export"
    exit_code = 7


class ModelFileError(ExportError):
    """An exported file that is damaged, or needs what is not here: it is not opened."""

    code = "model_file"
    exit_code = 3
