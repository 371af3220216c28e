"""An opened file, whatever its format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.catalog.checked_json import Document
from zoo.catalog.weights_records import InputFields, InputSpec
from zoo.errors import ConfigError

from ..spec import OUTPUT_NAME

Array = np.ndarray[Any, Any]
Named = Callable[[Array], dict[str, Array]]


@dataclass(frozen=True)
class Session:
    """An opened file: a function from batches to outputs, safe to call from many threads.

    Args:
        run_named: float32 (B, C, H, W) -> outputs by name.
        provider: what leads the session, e.g. "CUDAExecutionProvider"; "torch-cpu" for .pt, .pt2.
        metadata: what the file says of itself, decoded.
        attestation: proof of where it runs (`attest`); empty for torch's formats.
        shape: of the input; names stand for free sizes.
        output: name of the output that `run` returns.
        sha256: of the file; "" for torch's formats.
        dynamic_int8: whether an image's answer depends on the other images of its batch.
    """

    run_named: Named
    provider: str
    metadata: dict[str, Any]
    attestation: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int | str | None, ...] = ()
    output: str = OUTPUT_NAME
    sha256: str = ""
    dynamic_int8: bool = False

    @property
    def run(self) -> Callable[[Array], Array]:
        """A function float32 (B, C, H, W) -> the first output, logits (B, classes)."""
        return lambda batch: self.run_named(batch)[self.output]

    def warm_up(self, batches: Sequence[int] = (1,)) -> None:
        """Run zeros once per batch size: the first call of a shape plans memory and kernels.

        Raises: ConfigError if the image size is free and the file does not say its own.
        """
        stated = self.metadata.get("input")
        sides = list(self.shape[1:])
        if isinstance(stated, dict) and not all(isinstance(side, int) for side in sides):
            spec = InputSpec.from_dict(stated)
            sides = [spec.in_chans, *spec.size]
        if not sides or not all(isinstance(side, int) for side in sides):
            raise ConfigError(f"cannot warm up: the input shape is {self.shape}; run a batch once")
        for size in batches:
            self.run_named(np.zeros((size, *sides), np.float32))


_STRUCTURED: dict[str, Document[Any]] = {
    "input": Document(InputFields, "input specification", "metadata", "export again"),
    "labels": Document(list[str], "list of class names", "metadata", "export again"),
    "outputs": Document(list[str], "list of outputs", "metadata", "export again"),
}


def decode_metadata(raw: Mapping[str, str]) -> dict[str, Any]:
    """What a file says of itself, with its structured values decoded; None for what is absent, or
    is something else in a file that others wrote.

    Raises: ConfigError (code "metadata") for a damaged value in a file of ours.
    """
    found: dict[str, Any] = dict(raw)
    ours = raw.get("exporter", "").startswith("convattn-zoo")
    for key, document in _STRUCTURED.items():
        found[key] = None
        try:
            found[key] = document.parse(raw[key], f"{key!r} in the metadata")
        except KeyError:
            continue
        except ConfigError:
            if ours:
                raise
    if ours and not re.fullmatch(r"\d{0,5}", raw.get("size_multiple", "")):
        raise ConfigError("size_multiple in the metadata is no count of pixels", code="metadata")
    return found
