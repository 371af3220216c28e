"""Write an export directory: weights, config, exported files, test vectors, parity report,
manifest.

Everything is written into a hidden folder, which takes its place in one step when every file has
passed (`zoo.files.staging`). A failing verdict leaves the directory as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError
from zoo.factory.config_json import build_config
from zoo.factory.description import PretrainedCfg
from zoo.files.json_text import to_json
from zoo.files.ledger import remember
from zoo.files.local import sha256_bytes
from zoo.files.manifest import FILE as MANIFEST
from zoo.files.manifest import Manifest, make_manifest, read_manifest
from zoo.files.staging import carry, holds, require_free, staged_directory
from zoo.weights.safetensors_file import weights_bytes

from .formats.extras import extra_file
from .formats.metadata import describe_for
from .formats.surroundings import clean_room, unwrapped
from .formats.triton import FOLDER as TRITON
from .formats.triton import repository_file, write_triton
from .parity.calibration import OwnImages, own_images
from .parity.rebuilding import check_rebuilt
from .parity.report import ParityReport, require_parity
from .parity.stored import write_test_data
from .spec import FORMATS, PRECISIONS, SERVING, ExportSpec
from .writer import ArtefactWriter, check_exportable, check_names

if TYPE_CHECKING:
    from torch import nn


_GRAPHS = ("onnx/", "model.pt", FORMATS["aoti"], f"{TRITON}/")  # where the exported files lie
_OURS = (*_GRAPHS, "test_data_set_", "config.json", "model.safetensors", "parity.json")


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


@clean_room()
def export_model(
    model: nn.Module,
    out: str | Path,
    formats: Sequence[str] = ("onnx", "torchscript"),
    spec: ExportSpec | None = None,
    *,
    precisions: Sequence[str] = (),
    extras: Sequence[str] = (),
    calibration: str | Path | None = None,
    data: str | Path | None = None,
    on_unreadable: str = "stop",
    serving: str = "",
    exported: str | Path | None = None,
    allow_drift: bool = False,
    overwrite: bool = False,
) -> ExportResult:
    """Export a model of the zoo into a directory and verify every file against float64.

    The model is copied, never changed.

    Args:
        out: directory; created if needed. A training run or an export of these very weights gets
            the files added or renewed; another finished directory is replaced with `overwrite`.
        formats: of "onnx", "torchscript", "pt2" and "aoti".
        spec: with `img_size` and `dynamic_size` among its settings.
        precisions: further ONNX files, of "float16", "int8" (dynamic) and "int8-static".
        extras: further ONNX files, of "embeddings", "features", "attention", "preprocessing", or
            several of them in one, as "preprocessing+attention" (see `formats.extras`).
        calibration: folder of images for static int8; None takes images that ship with us. In class
            folders named like the model's classes they are `data` too, unless that is given.
        data: labelled images with the model's classes, as `zoo.data.open_dataset` takes them: the
            training part calibrates static int8 unless `calibration` does, and an int8 file may
            lose at most `spec.int8_top1_loss` points on the validation part.
        on_unreadable: "stop" or "skip", for both.
        serving: "triton" adds a model repository of the float32 ONNX file.
        exported: directory of an earlier export of these weights by this user. Its ONNX graph is
            taken where making it again would give the same; it is verified like a new one.
        allow_drift: write files despite a failing verdict; parity.json and config.json then say so
            ("drift_allowed": true).
        overwrite: replace another model, or files that this export does not write.
    Raises: ParityError (its `report` attribute has the rows), ExportError (code "not_rebuildable":
        config.json and the weights would not make this model again), ResourceError, ConfigError;
        NotFoundError, ImageError and DatasetError for `calibration` and `data`.
    """
    spec = spec or ExportSpec()
    _check_request(formats, precisions, serving)
    if (calibration or data) and not any(name.startswith("int8") for name in precisions):
        raise ConfigError(
            "data and calibration are images for int8 files, and none is asked for; add the "
            "precision int8 or int8-static, or leave them out"
        )
    model = unwrapped(model)
    weights = weights_bytes(model)
    cfg = replace(describe_for(model, spec, None), sha256=sha256_bytes(weights))
    config = build_config(model, cfg.sha256)
    config["pretrained_cfg"] |= cfg.input.to_dict()  # its size may be another one
    check_exportable(cfg, spec, formats)
    own = own_images(cfg, calibration, data, on_unreadable)
    if calibration and "int8-static" not in precisions:
        _require_judges(own, data)
    out = Path(out)
    requested = _requested(formats, precisions, extras)
    requested |= {repository_file(cfg)} if serving else set()
    kept = _check_place(out, cfg, requested, overwrite)
    with staged_directory(out, replace=True) as folder:
        (folder / "model.safetensors").write_bytes(weights)
        _write_config(folder, config)
        check_rebuilt(folder, model, cfg)
        before = None if exported is None else Path(exported)
        writer = ArtefactWriter(model, cfg, spec, folder, own, allow_drift, before)
        write_test_data(folder, writer.references.by_size)
        writer.write(formats, precisions, extras)
        report = writer.report()
        require_parity(report, allow_drift)
        if serving:
            write_triton(folder, FORMATS["onnx"], cfg)
        carry(out, folder, kept)
        manifest = _sign(folder, config, report, cfg)
        remember(map(manifest.digest, requested))
    return ExportResult(out, report, manifest)


def _check_request(formats: Sequence[str], precisions: Sequence[str], serving: str) -> None:
    check_names("formats", formats, FORMATS)
    check_names("precisions", precisions, PRECISIONS)
    check_names("serving", [serving] if serving else [], SERVING)
    if serving and "onnx" not in formats:
        raise ConfigError("triton serves the float32 ONNX file; add the format onnx")
    if not formats:
        raise ConfigError(f"formats are {', '.join(FORMATS)}; got none")
    if "float32" in precisions and "onnx" not in formats:
        raise ConfigError("the precision float32 is the ONNX file itself; add the format onnx")


def _require_judges(own: OwnImages | None, data: str | Path | None) -> None:
    """Raises: ConfigError for images to calibrate on that no file is calibrated or judged on."""
    if data is not None or own is None or own.labelled is None:
        raise ConfigError(
            "calibration is for int8-static, and none is asked for; add the precision, or leave it "
            "out. A folder with the model's class folders judges int8 too"
        )


def _requested(
    formats: Sequence[str], precisions: Sequence[str], extras: Sequence[str]
) -> set[str]:
    """The exported files that will be written. Raises: ConfigError for unknown extras."""
    chosen = ((FORMATS, formats), (PRECISIONS, precisions))
    files = {files[name] for files, names in chosen for name in names}
    return files | {extra_file(extra) for extra in extras}


def _check_place(
    out: Path, cfg: PretrainedCfg, requested: set[str], overwrite: bool
) -> tuple[str, ...]:
    """Refuse to lose finished work. Returns: files of a training run, which stay.

    Raises: ConfigError.
    """
    if not holds(out, cfg.name, cfg.version, cfg.sha256):
        require_free(out, overwrite)
        return ()
    paths = read_manifest(out).paths
    lost = [path for path in paths if path.startswith(_GRAPHS) and path not in requested]
    if lost and not overwrite:
        raise ConfigError(
            f"{str(out)!r} holds {', '.join(lost[:3])}, which this export would not write again; "
            "ask for all formats and precisions, choose another --out, or give --overwrite",
            code="finished",
        )
    return tuple(path for path in paths if not path.startswith(_OURS))


def _sign(
    folder: Path, config: dict[str, Any], report: ParityReport, cfg: PretrainedCfg
) -> Manifest:
    """Add parity.json, what config.json says of it, and the manifest of all."""
    if report.drift_allowed:
        config["convattn"]["drift_allowed"] = True
        _write_config(folder, config)
    (folder / "parity.json").write_text(report.to_json())
    manifest = make_manifest(
        folder, _files_in(folder), cfg.name, cfg.version, cfg.architecture_version
    )
    (folder / MANIFEST).write_text(manifest.to_json())
    return manifest


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(to_json(config, indent=2, ensure_ascii=False) + "\n")


def _files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
