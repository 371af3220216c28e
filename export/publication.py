"""Write a bundle: an export together with what its readers need besides.

One folder for five readers: this package, timm (config.json), plain safetensors, ONNX Runtime, and
the image processors of transformers and transformers.js (preprocessor_config.json). It is written
into a hidden folder beside its place, compared with its own manifest, and renamed.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import ModelRecord, PretrainedCfg, get_record
from zoo.errors import ConfigError, ExportError, ZooError
from zoo.files import make_directory, read_regular_file, resource_error
from zoo.labels import list_name
from zoo.manifest import FILE as MANIFEST
from zoo.manifest import Manifest, check_files, check_portable, make_manifest
from zoo.measurement import machine, parent_commit, versions
from zoo.records import VERSION, InputSpec, Metric

from .bundles import export_model
from .cards import add_card_files, bundle_facts, render_card
from .description import describe
from .parity import ParityReport
from .spec import ExportSpec

if TYPE_CHECKING:
    from torch import nn

PROVENANCE = "provenance.json"
CARD = "README.md"
PROCESSOR = "preprocessor_config.json"
_RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}  # Pillow's numbers


@dataclass(frozen=True)
class Bundle:
    """What `write_bundle` wrote.

    Args:
        directory: where.
        report: the passing parity report.
        manifest: all files but provenance.json, with size and digest.
    """

    directory: Path
    report: ParityReport
    manifest: Manifest


def write_bundle(
    model: nn.Module,
    out: str | Path,
    *,
    version: str = "",
    licence: str = "",
    metrics: Sequence[Metric] = (),
    measured: str | Path | None = None,
    formats: Sequence[str] = ("onnx", "torchscript"),
    precisions: Sequence[str] = ("int8",),
    spec: ExportSpec | None = None,
) -> Bundle:
    """Export a model and add config, image processor, card, licence, provenance and manifest.

    Args:
        out: a directory that does not exist, is empty, or holds an earlier bundle, which is
            replaced as a whole.
        version: "X.Y.Z" for weights that have none; published versions never change.
        licence: of the weights, where the model does not say; an SPDX name.
        metrics: numbers with their sources, for the card.
        measured: folder of measured files of these weights, for a card with pictures.
        formats, precisions, spec: as `export_model`; by default with a quantised ONNX file.
    Raises: ConfigError, ParityError, ExportError, ResourceError.
    """
    given = describe(model)
    cfg = _identified(given, version, licence)
    record = None if cfg.architecture.startswith("timm:") else get_record(cfg.architecture)
    with _staged(Path(out).absolute()) as folder:
        with _described(model, cfg):
            result = export_model(model, folder, formats, spec, precisions=precisions)
        cfg = replace(cfg, sha256=result.manifest.digest("model.safetensors"))
        facts = bundle_facts(cfg, record, result.report, metrics, measured)
        pictures = add_card_files(folder, facts, model) if measured is not None else ()
        card = render_card(facts, pictures)
        _describe(folder, cfg, record, result.manifest, card)
        manifest = _sign(folder, cfg)
    return Bundle(Path(out), result.report, manifest)


def _describe(
    folder: Path, cfg: PretrainedCfg, record: ModelRecord | None, exported: Manifest, card: str
) -> None:
    """Add what a bundle has beyond an export."""
    _write_json(folder / "config.json", _config(folder, cfg, record, exported))
    _write_json(folder / PROCESSOR, image_processor(cfg.input))
    (folder / CARD).write_text(card, encoding="utf-8")
    (folder / "LICENSE").write_text(_licence(cfg, record), encoding="utf-8")
    _write_json(folder / PROVENANCE, _provenance(cfg))


def _sign(folder: Path, cfg: PretrainedCfg) -> Manifest:
    """Write manifest.json and compare every file with it."""
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    listed = [path for path in paths if path not in (PROVENANCE, MANIFEST)]
    check_portable(listed, "the bundle")
    manifest = make_manifest(folder, listed, cfg.name, cfg.version, cfg.architecture_version)
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    check_files(folder, manifest)
    return manifest


def image_processor(spec: InputSpec) -> dict[str, Any]:
    """preprocessor_config.json: the same steps under the names of transformers' image processors.

    For oblong inputs they know no resize that keeps the aspect ratio: the image is stretched.
    """
    short = math.floor(min(spec.size) / spec.crop_pct)
    height, width = spec.size
    square = height == width
    return {
        "image_processor_type": "CLIPImageProcessor" if square else "ViTImageProcessor",
        "do_convert_rgb": spec.in_chans == 3,
        **({"do_grayscale": True} if spec.in_chans == 1 else {}),
        "do_resize": True,
        "size": {"shortest_edge": short} if square else {"height": height, "width": width},
        "resample": _RESAMPLE[spec.interpolation],
        "do_center_crop": square,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }


def measured_metrics(folder: str | Path, name: str) -> tuple[Metric, ...]:
    """Accuracies in ``folder/NAME/accuracy.json``, as `convattn evaluate --out folder` wrote them.

    Raises: NotFoundError, ConfigError.
    """
    path = Path(folder) / name / "accuracy.json"
    try:
        found = json.loads(read_regular_file(path, "measured file"))
        return tuple(
            Metric(
                name="acc1_percent",
                value=float(accuracy["acc1_percent"]),
                dataset=data,
                source=f"measured: `{found['command']}`",
            )
            for data, accuracy in found["results"].items()
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"{str(path)!r} is no accuracy that `convattn evaluate --out` wrote: {error!r}"
        raise ConfigError(text, code="metrics") from None


def _identified(cfg: PretrainedCfg, version: str, licence: str) -> PretrainedCfg:
    """The configuration with the version and licence that the caller adds."""
    if not cfg.architecture:
        raise ConfigError("a model that the zoo did not build cannot be bundled; export it instead")
    if version and not VERSION.fullmatch(version):
        raise ConfigError(f"version must be X.Y.Z; got {version!r}", code="version")
    if version and cfg.version not in ("", version):
        raise ConfigError(
            f"{cfg.name} is version {cfg.version} already and published versions never change; "
            "leave the version out",
            code="version",
        )
    return replace(cfg, version=version or cfg.version, licence=licence or cfg.licence)


@contextlib.contextmanager
def _described(model: nn.Module, cfg: PretrainedCfg) -> Iterator[None]:
    """The model with another description, for as long as it is exported."""
    given = model.pretrained_cfg
    model.pretrained_cfg = cfg  # type: ignore[assignment]
    try:
        yield
    finally:
        model.pretrained_cfg = given


def _config(
    folder: Path, cfg: PretrainedCfg, record: ModelRecord | None, manifest: Manifest
) -> dict[str, Any]:
    """The export's config.json with what it cannot know itself: family, labels, digests."""
    config: dict[str, Any] = json.loads(read_regular_file(folder / "config.json"))
    config["convattn"] |= {
        "name": cfg.name,
        "family": record.family.name if record else "timm",
        "labels": list_name(cfg.labels),
        "digests": {path: digest for path, _, digest in manifest.files if path != "config.json"},
    }
    return config


def _licence(cfg: PretrainedCfg, record: ModelRecord | None) -> str:
    upstream = f" ({record.family.upstream})" if record else ""
    note = f"{record.family.licence.note}\n" if record and record.family.licence.note else ""
    return (
        f"Weights of {cfg.name}{upstream}: {cfg.licence or 'licence not stated'}.\n{note}"
        "The other files of this folder, and the code inside model.pt, come from convattn-zoo,\n"
        f"whose licence follows.\n\n{_own_licence()}"
    )


def _own_licence() -> str:
    """The text of this project's licence: of the checkout, else of the installed distribution."""
    from importlib import metadata

    file = Path(__file__).resolve().parents[1] / "LICENSE"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    with contextlib.suppress(metadata.PackageNotFoundError):
        for entry in metadata.files("convattn-zoo") or ():
            if entry.name == "LICENSE":
                return str(entry.read_text(encoding="utf-8"))
    raise ExportError("the LICENSE file of convattn-zoo is missing; install the package again")


def _provenance(cfg: PretrainedCfg) -> dict[str, Any]:
    return {
        "format_version": 1,
        "name": cfg.name,
        "version": cfg.version,
        "weights_sha256": cfg.sha256,
        "made_with": {"versions": versions(), "machine": machine(), "commit": parent_commit()},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, renamed to it on success and removed on any failure."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{str(out)!r} is a file; --out names a directory", code="out")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        text = f"{str(out)!r} holds other files; choose an empty or a new directory"
        raise ConfigError(text, code="out")
    make_directory(out.parent)
    mark = f"{os.getpid()}-{os.urandom(4).hex()}"
    folder, old = (out.parent / f".{out.name}-{kind}-{mark}" for kind in ("new", "old"))
    try:
        folder.mkdir()
        yield folder
        if out.exists():
            os.rename(out, old)
        os.rename(folder, out)
    except ZooError:
        raise
    except OSError as error:
        raise resource_error(error, out) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
