"""Write a bundle: an export together with what its readers need besides.

One folder for five readers: this package, timm (config.json), plain safetensors, ONNX Runtime, and
the image processors of transformers and transformers.js (preprocessor_config.json). It is written
into a hidden folder beside its place, compared with its own manifest, and renamed.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog.records import ModelRecord
from zoo.catalog.registry import get_record
from zoo.catalog.tables import list_name
from zoo.catalog.weights_records import VERSION, Metric
from zoo.errors import ConfigError, ExportError, UnknownModelError
from zoo.factory.config_json import read_config
from zoo.factory.description import PretrainedCfg
from zoo.files import card_text
from zoo.files.json_text import to_json
from zoo.files.listed import read_document
from zoo.files.local import sha256_bytes
from zoo.files.manifest import FILE as MANIFEST
from zoo.files.manifest import Manifest, check_files, check_portable, make_manifest
from zoo.files.places import Directory
from zoo.files.provenance import machine, parent_commit, versions
from zoo.files.staging import holds, require_free, staged_directory
from zoo.weights.safetensors_file import weights_bytes

from ..cards import add_card_files, bundle_facts, render_card
from ..cards.facts import CardFacts
from ..cards.measured_files import ACCURACY
from ..cards.own_run import read_own_run
from ..directory import export_model
from ..formats.metadata import describe
from ..formats.surroundings import clean_room, unwrapped
from ..parity.report import ParityReport
from ..spec import ExportSpec
from .names import CARD, PROCESSOR, PROVENANCE, check_repo
from .transformers_config import image_processor, transformers_keys

if TYPE_CHECKING:
    from torch import nn


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


@clean_room()
def write_bundle(
    model: nn.Module,
    out: str | Path,
    *,
    version: str = "",
    licence: str = "",
    repo: str = "",
    run: str | Path | None = None,
    card: str | Path | None = None,
    metrics: Sequence[Metric] = (),
    measured: str | Path | None = None,
    formats: Sequence[str] = ("onnx", "torchscript"),
    precisions: Sequence[str] = ("int8",),
    spec: ExportSpec | None = None,
    data: str | Path | None = None,
    on_unreadable: str = "stop",
    exported: str | Path | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Export a model and add config, image processor, card, licence, provenance and manifest.

    Args:
        out: a directory that does not exist or is empty; one of the same name, version and weights
            is written again, any other finished one is replaced with `overwrite`.
        version: "X.Y.Z" for weights that have none; published versions never change.
        licence: of the weights, where the model does not say; an SPDX name.
        repo: ``org/name`` where it will be published, for the snippets of the card; `publish` puts
            in its own.
        run: directory of the training run that the weights come from: data, recipe, accuracy and
            curves for the card.
        card: a CARD.md with what only the owner knows (`zoo.files.card_text`); None: the run's.
        metrics: numbers with their sources, for the card.
        measured: folder of measured files of these weights, for a card with pictures.
        exported: as in `export_model`; None: `run`, which `train --export` exports.
        data, on_unreadable: labelled images that int8 is judged on, as in `export_model`.
        formats, precisions, spec: as `export_model`; by default with a quantised ONNX file.
    Raises: ConfigError, ParityError, ExportError, ResourceError.
    """
    model = unwrapped(model)
    given = describe(model)
    cfg = _identified(given, version, licence)
    check_repo(repo)
    words = _words(run, card)
    sha256 = sha256_bytes(weights_bytes(model))
    _require_unpublished(cfg, given, sha256)
    trained = read_own_run(run, sha256) if run is not None else None
    record = None if cfg.is_foreign else get_record(cfg.architecture)
    if not holds(out, cfg.name, cfg.version, sha256):
        require_free(out, overwrite)
    with staged_directory(out, replace=True) as folder:
        with _described(model, cfg):
            result = export_model(
                model, folder, formats, spec, precisions=precisions, data=data,
                on_unreadable=on_unreadable, exported=exported or run,
            )  # fmt: skip
        cfg = replace(cfg, sha256=sha256)
        facts = bundle_facts(
            cfg, record, result.report, metrics, measured, run=trained, words=words, repo=repo
        )
        facts = replace(facts, params=sum(p.numel() for p in model.parameters()))
        shown = measured is not None or trained is not None
        pictures = add_card_files(folder, facts, model) if shown else ()
        _describe(folder, facts, result.manifest, render_card(facts, pictures))
        manifest = _sign(folder, cfg)
    return Bundle(Path(out), result.report, manifest)


def _words(run: str | Path | None, card: str | Path | None) -> Mapping[str, str]:
    """What the owner says. Raises: ConfigError for a draft that is not completed."""
    if card is None and run is not None and (Path(run) / card_text.FILE).is_file():
        card = Path(run) / card_text.FILE
    return card_text.read_card_text(card) if card is not None else {}


def _describe(folder: Path, facts: CardFacts, exported: Manifest, card: str) -> None:
    """Add what a bundle has beyond an export."""
    cfg, record = facts.cfg, facts.record
    config = _config(folder, cfg, record, exported)
    config["convattn"]["repo"] = facts.repo
    _write_json(folder / "config.json", config)
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


def measured_metrics(folder: str | Path, name: str) -> tuple[Metric, ...]:
    """Accuracies in ``folder/NAME/accuracy.json``, as `convattn evaluate --out folder` wrote them.

    Raises: NotFoundError, ConfigError.
    """
    path = Path(folder) / name / "accuracy.json"
    found = read_document(ACCURACY, path)
    return tuple(
        Metric(
            name="acc1_percent",
            value=float(accuracy["acc1_percent"]),
            dataset=data,
            source=f"measured: `{found['command']}`",
        )
        for data, accuracy in found["results"].items()
    )


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


def _require_unpublished(cfg: PretrainedCfg, given: PretrainedCfg, sha256: str) -> None:
    """Refuse other weights under the name and version of published ones.

    Args:
        given: the model's own description, whose digest is of the file that it was loaded from.
        sha256: of the weights as they would be written.
    Raises: ConfigError.
    """
    if cfg.is_foreign or not cfg.tag or not cfg.version:
        return
    try:
        published = get_record(f"{cfg.name}@{cfg.version}").selected
    except UnknownModelError:
        return
    if published is None or sha256 == published.sha256:
        return
    loaded = given.sha256 if given.version == cfg.version else ""
    if not loaded or (published.sha256 and loaded != published.sha256):
        raise ConfigError(
            f"{published.name} is published with other weights (SHA-256 {published.sha256[:16]}…; "
            f"these have {sha256[:16]}…) and published versions never change; give another version "
            "(--version X.Y.Z)",
            code="version",
        )


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
    """The export's config.json with what it cannot know itself: family, labels, digests; and what
    transformers and transformers.js read of any model: its type and its class names.
    """
    config = read_config(Directory(str(folder)))
    config |= transformers_keys(cfg)
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

    file = Path(__file__).resolve().parents[2] / "LICENSE"
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
    path.write_text(to_json(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
