"""The files that a model's page serves: those of its export, and what the export lacks.

An export directory is taken as it is, after its digests; only the attention graph is added where it
is missing. Anything else (a name, a training run, a hub reference) is exported first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import PretrainedCfg, create_model
from zoo.errors import ConfigError, ExportError, ZooError
from zoo.files.local import sha256_file
from zoo.files.manifest import check_files, read_manifest

from ...directory import export_model
from ...formats.extras import extra_file
from ...formats.outputs import form_with
from ...parity.stored import TEST_DATA
from ...spec import OUTPUT_NAME, PRECISIONS, ExportSpec

if TYPE_CHECKING:
    from torch import nn

ATTENTION = extra_file("attention")
VECTORS = ("input_0.pb", "output_0.pb", "eager_float32_error.pb")
_MADE = ("float16", "int8", "int8-static")  # beside float32, where we export ourselves


@dataclass(frozen=True)
class Collected:
    """A model with the files of its export.

    Args:
        model: in eval mode, with its weights.
        cfg: what it says of itself.
        folder: of the export; its digests were compared.
        files: precision -> path in `folder`.
        attention: the file with the attention graph, or None for a model without such layers.
    """

    model: nn.Module
    cfg: PretrainedCfg
    folder: Path
    files: dict[str, str]
    attention: Path | None


def collect(reference: str, work: Path) -> Collected:
    """The files of a model.

    Args:
        reference: as every verb takes it.
        work: an empty folder for what has to be exported.
    Raises: ConfigError for a model without a classifier, IntegrityError, ParityError, ExportError,
        NoWeightsError and the others of `zoo.create_model`.
    """
    model = create_model(reference, pretrained=True).eval()
    cfg = PretrainedCfg.of(model)
    if cfg is None or cfg.num_classes < 1:
        raise ConfigError(
            f"{reference!r} has no classifier; the gallery shows models that answer with classes",
            code="no_classifier",
        )
    folder = Path(reference)
    if _is_export(folder):
        check_files(folder, read_manifest(folder))
    else:
        folder = work / "export"
        _export(model, folder, attention=has_attention(model))
    listed = read_manifest(folder).paths
    files = {name: path for name, path in PRECISIONS.items() if path in listed}
    if not {f"{TEST_DATA}/{name}" for name in VECTORS} <= set(listed):
        raise ConfigError(f"{str(folder)!r} has no {TEST_DATA}; export it again", code="no_vectors")
    return Collected(model, cfg, folder, files, _attention(model, folder, listed, work))


def _is_export(folder: Path) -> bool:
    try:
        return PRECISIONS["float32"] in read_manifest(folder).paths
    except ZooError:
        return False


def _export(model: nn.Module, out: Path, attention: bool, precisions: Any = _MADE) -> None:
    extras: Sequence[str] = ("attention",) if attention else ()
    export_model(model, out, ("onnx",), ExportSpec(), precisions=precisions, extras=extras)


def has_attention(model: nn.Module) -> bool:
    """Whether a model can be exported with its attention matrices."""
    try:
        return form_with(model, ("attention",)).outputs[0] == OUTPUT_NAME
    except ExportError:
        return False


def _attention(model: nn.Module, folder: Path, listed: Sequence[str], work: Path) -> Path | None:
    if ATTENTION in listed:
        return folder / ATTENTION
    if not has_attention(model):
        return None
    _export(model, work / "attention", attention=True, precisions=())
    return work / "attention" / ATTENTION


def described(path: Path, name: str, **more: Any) -> dict[str, Any]:
    """A file as model.json names it: its place on the site, size and digest."""
    return {
        "file": name,
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        **more,
    }
