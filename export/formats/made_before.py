"""The graph of an earlier export of the same weights, so that a bundle need not make it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.files.ledger import known_digests
from zoo.files.listed import read_listed
from zoo.files.local import sha256_bytes

from ..spec import FORMATS

if TYPE_CHECKING:
    import onnx

# what a release adds to a file that a training run or an export holds already
_ADDED = ("name", "version", "licence")


def graph_made_before(place: Path, metadata: Mapping[str, str]) -> onnx.ModelProto | None:
    """The float32 graph in a directory, if making it again would give the same one.

    That is so where this user exported it here (his ledger has its digest) and all that it says of
    itself is what a new one would say: weights, input, labels, opset, versions of the exporter.

    Args:
        metadata: of the new file; name, version and licence may differ.
    Raises: IntegrityError if it is not the file that the directory's manifest lists.
    """
    import onnx

    path = place / FORMATS["onnx"]
    if not path.is_file():
        return None
    data = read_listed(path, FORMATS["onnx"])
    if sha256_bytes(data) not in known_digests():
        return None
    proto = onnx.load_model_from_string(data)
    found = {entry.key: entry.value for entry in proto.metadata_props}
    return proto if _lasting(found) == _lasting(metadata) else None


def _lasting(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key not in _ADDED}
