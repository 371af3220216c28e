"""Write an export directory: weights, config, exported files, test vectors, parity report,
manifest.

Everything is written into a hidden folder beside its place and moved there only when every file has
passed; manifest.json comes last. A failing verdict leaves the directory as it was.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import PretrainedCfg
from zoo.errors import ConfigError, ZooError
from zoo.files import make_directory, resource_error, sha256_bytes
from zoo.manifest import FILE as MANIFEST
from zoo.manifest import Manifest, make_manifest, read_manifest
from zoo.preprocessing import list_images
from zoo.references import build_config
from zoo.weights import weights_bytes

from .artefacts import EXTRA_FILES as EXTRA_FILES
from .artefacts import FORMATS as FORMATS
from .artefacts import PRECISIONS as PRECISIONS
from .artefacts import ArtefactWriter, check_exportable, check_names
from .description import describe_for, require_parity
from .parity import ParityReport
from .spec import ExportSpec
from .test_vectors import TEST_DATA as TEST_DATA
from .test_vectors import read_test_data as read_test_data
from .test_vectors import write_test_data

if TYPE_CHECKING:
    from torch import nn

_OURS = ("onnx/", "model.pt", "test_data_set_")  # what another export of the same place replaces


@dataclass(frozen=True)
class ExportResult:
    """What `export_model` wrote.

    Args:
        directory: where.
        report: the parity report; it passes, unless `allow_drift` was asked for.
        manifest: all files with size and digest.
    """

    directory: Path
    report: ParityReport
    manifest: Manifest


def export_model(
    model: nn.Module,
    out: str | Path,
    formats: Sequence[str] = ("onnx", "torchscript"),
    spec: ExportSpec | None = None,
    *,
    precisions: Sequence[str] = (),
    extras: Sequence[str] = (),
    calibration: str | Path | None = None,
    allow_drift: bool = False,
) -> ExportResult:
    """Export a model of the zoo into a directory and verify every file against float64.

    The model is copied, never changed.

    Args:
        out: directory; created if needed. Files of an earlier export there are replaced.
        formats: of "onnx", "torchscript" and "pt2".
        spec: with `img_size` and `dynamic_size` among its settings.
        precisions: further ONNX files, of "float16", "int8" (dynamic) and "int8-static".
        extras: further ONNX files, of "embeddings", "features", "attention", "preprocessing".
        calibration: folder of images for static int8; None takes images that ship with us.
        allow_drift: write files despite a failing verdict; parity.json and config.json then say so
            ("drift_allowed": true).
    Raises: ParityError (its `report` attribute has the rows), ExportError, ResourceError,
        ConfigError, NotFoundError and ImageError for `calibration`.
    """
    spec = spec or ExportSpec()
    _check_request(formats, precisions, extras)
    images = Path(calibration) if calibration is not None else None
    if images is not None:
        list_images([str(images)])  # before the work: a folder without images is an error
    weights = weights_bytes(model)
    cfg = replace(describe_for(model, spec, None), sha256=sha256_bytes(weights))
    config = build_config(model, cfg.sha256)
    config["pretrained_cfg"] |= cfg.input.to_dict()  # its size may be another one
    check_exportable(cfg, spec, formats)
    out = make_directory(out)
    with _staging(out) as folder:
        (folder / "model.safetensors").write_bytes(weights)
        writer = ArtefactWriter(model, cfg, spec, folder, images, allow_drift)
        write_test_data(folder, writer.references.by_size)
        writer.write(formats, precisions, extras)
        report = writer.report()
        require_parity(report, allow_drift)
        manifest = _sign(folder, config, report, cfg)
        _move(folder, out, manifest)
    return ExportResult(out, report, manifest)


def _check_request(
    formats: Sequence[str], precisions: Sequence[str], extras: Sequence[str]
) -> None:
    check_names("formats", formats, FORMATS)
    check_names("precisions", precisions, PRECISIONS)
    check_names("extras", extras, EXTRA_FILES)
    if not formats:
        raise ConfigError(f"formats are {', '.join(FORMATS)}; got none")


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    folder = out / f".export-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        folder.mkdir()
        yield folder
    except ZooError:
        raise
    except OSError as error:
        raise resource_error(error, out) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sign(
    folder: Path, config: dict[str, Any], report: ParityReport, cfg: PretrainedCfg
) -> Manifest:
    """Add config.json, parity.json and the manifest of all."""
    if report.drift_allowed:
        config["convattn"]["drift_allowed"] = True
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    (folder / "parity.json").write_text(report.to_json())
    manifest = make_manifest(
        folder, _files_in(folder), cfg.name, cfg.version, cfg.architecture_version
    )
    (folder / MANIFEST).write_text(manifest.to_json())
    return manifest


def _files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _move(folder: Path, out: Path, manifest: Manifest) -> None:
    """Move staged files to their names, manifest last; drop files that only an old manifest
    lists.
    """
    old: set[str] = set()
    if (out / MANIFEST).is_file():
        try:
            old = {p for p in read_manifest(out).paths if p.startswith(_OURS)}
        except ZooError:
            old = set()
        (out / MANIFEST).unlink()
    for path in (*manifest.paths, MANIFEST):
        with open(folder / path, "rb+") as handle:
            os.fsync(handle.fileno())
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / path, out / path)
    for path in old - set(manifest.paths):
        (out / path).unlink(missing_ok=True)
