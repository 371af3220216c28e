"""What a card is made of: a record, and the measured files of exactly its weights.

Files are read from ``MEASURED/NAME/``: accuracy.json (`convattn evaluate --out`), training.json
(`benchmarks.seeds`), parity*.json (`convattn verify --out`) and speed*.json (`convattn bench model
--out`). A file that is missing leaves a gap that the card names; one of other weights is an error,
except for speed, which does not depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.catalog.checked_json import Document
from zoo.catalog.records import DataRecord, ModelRecord
from zoo.catalog.registry import get_record
from zoo.catalog.tables import find_data_set, read_costs, read_labels
from zoo.catalog.weights_records import Metric
from zoo.errors import ConfigError, IntegrityError, NotFoundError, NoWeightsError
from zoo.factory.description import PretrainedCfg

from ..parity.report import ParityReport, read_report
from .measured_files import ACCURACY, CONDITIONS, TRAINING
from .measured_files import SPEED as SPEED_DOCUMENT
from .own_run import OwnRun

Json = Mapping[str, Any]
SPEED = "speed*.json"


@dataclass(frozen=True)
class MeasuredParity:
    """A parity file: the report, and the rest of the file (command, machine, commit)."""

    file: str
    report: ParityReport
    how: Json


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Everything that a card may say.

    Args:
        cfg: of the weights.
        record: what the registry knows; None for a model that timm builds.
        accuracy, training: contents of accuracy.json and training.json, or None.
        parity: one entry for each parity file.
        speed: contents of the speed files of this architecture.
        published: numbers with their sources, of the weights and of the original checkpoint.
        measured: numbers with their sources that the caller measured, where there is no accuracy.
        run: the training run of one's own that the weights come from.
        words: section -> what their owner says of them (`zoo.files.card_text`).
        params: of the model itself, where it is at hand.
        repo: where the bundle that holds the card is published; "" for a card beside the catalogue.
    """

    cfg: PretrainedCfg
    record: ModelRecord | None
    accuracy: Json | None = None
    training: Json | None = None
    parity: tuple[MeasuredParity, ...] = ()
    speed: tuple[Json, ...] = ()
    published: tuple[Metric, ...] = ()
    measured: tuple[Metric, ...] = ()
    run: OwnRun | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    repo: str = ""
    params: int = 0

    @property
    def data(self) -> DataRecord | None:
        """The data set that the weights were trained on, if the zoo knows it. Weights of one's own
        are of it only if they are called after it: anybody may have classes "0" to "9".
        """
        found = find_data_set(self.cfg.labels)
        ours = self.record is None or self.record.selected is not None
        return found if found is not None and (ours or found.name == self.cfg.tag) else None

    @property
    def name(self) -> str:
        """``arch.tag``."""
        return self.cfg.name

    @property
    def costs(self) -> dict[str, int]:
        """Parameters and MACs of the weights, or of the registered model, if neither its
        configuration nor its input was changed.
        """
        if self.record is None:
            return {}
        if self.record.selected is not None and self.name in read_costs():
            return read_costs()[self.name]
        if self.cfg.input.size != self.record.input.size:
            return {}
        changed = self.cfg.model_args.keys() - {"num_classes"}
        if changed or self.cfg.num_classes != self.record.config.get("num_classes", 1000):
            return {}
        return read_costs().get(self.record.name, {})


def facts_of(reference: str, measured: str | Path) -> CardFacts:
    """Facts about the weights of a record.

    Args:
        reference: ``ARCH[.TAG][@X.Y.Z]``.
        measured: folder of measured files; see `require_measured`.
    Raises: UnknownModelError; NoWeightsError for a model without weights; ConfigError for a record
        without licence (code "licence") or a file that cannot be understood ("measured");
        IntegrityError for a measured file of other weights.
    """
    record = get_record(reference)
    cfg = cfg_of(record)
    if not cfg.licence or not record.family.licence.code:
        raise ConfigError(
            f"the record of {cfg.name} states no licence; add it to the catalogue", code="licence"
        )
    return read_facts(cfg, record, measured)


def cfg_of(record: ModelRecord) -> PretrainedCfg:
    """What the selected weights of a record are, without loading them.

    Raises: NoWeightsError.
    """
    weights, family = record.selected, record.family
    if weights is None:
        tags = ", ".join(record.tags) or "none"
        raise NoWeightsError(
            f"{record.name} has no weights that load (tags: {tags}); cards are of weights, "
            "`convattn list --pretrained` shows them"
        )
    config = {**record.config, **weights.overrides}
    return PretrainedCfg(
        architecture=record.name,
        architecture_version=family.version,
        num_classes=config.get("num_classes", 1000),
        input=weights.input or record.input,
        tag=weights.tag,
        version=weights.version,
        sha256=weights.sha256,
        labels=read_labels(weights.labels),
        licence=weights.licence or family.licence.weights,
        model_args=weights.overrides,
    )


def read_facts(
    cfg: PretrainedCfg, record: ModelRecord | None, measured: str | Path | None
) -> CardFacts:
    """Facts from measured files, each of which must be of the weights of `cfg`."""
    weights = record.selected if record else None
    origin = record.checkpoint.metrics if record and record.checkpoint else ()
    published = (*origin, *(weights.metrics if weights else ()))
    if measured is None:
        return CardFacts(cfg=cfg, record=record, published=published)
    folder = Path(measured) / cfg.name
    accuracy = _read(folder / "accuracy.json", cfg.sha256, ACCURACY)
    training = _read(folder / "training.json", cfg.sha256, TRAINING)
    _check_training(training, record, folder)
    return CardFacts(
        cfg=cfg,
        record=record,
        accuracy=accuracy,
        training=training,
        parity=tuple(_parity(path, cfg) for path in sorted(folder.glob("parity*.json"), key=_stem)),
        speed=_speed(Path(measured), cfg.architecture),
        published=published,
    )


def require_measured(folder: str | Path) -> Path:
    """A folder of measured files. Raises: NotFoundError."""
    if not Path(folder).is_dir():
        raise NotFoundError(
            f"there is no folder {str(folder)!r} of measured files; they are in "
            "model_cards/measured of a checkout, not in the installed package: name the folder "
            "with --measured DIR"
        )
    return Path(folder)


def _read(path: Path, sha256: str, document: Document[Any]) -> Json | None:
    """A measured file, or None if there is none."""
    if not path.is_file():
        return None
    content = document.read(path)
    _check_digest(path, content.get("weights_sha256", ""), sha256)
    return dict(content)


def _check_digest(path: Path, found: str, sha256: str) -> None:
    if found and sha256 and found != sha256:
        raise IntegrityError(
            f"{str(path)!r} was measured on weights with SHA-256 {found[:16]}…, the record has "
            f"{sha256[:16]}…; measure again",
            code="other_weights",
        )


def _check_training(training: Json | None, record: ModelRecord | None, folder: Path) -> None:
    """The run that a file tells of must be the one that the record names."""
    weights = record.selected if record else None
    if training is None or weights is None or not weights.recipe:
        return
    recipe = training.get("recipe", {})
    found = (recipe.get("name"), recipe.get("seed"))
    if found != (weights.recipe, weights.seed):
        raise IntegrityError(
            f"{str(folder / 'training.json')!r} tells of recipe {found[0]!r}, seed {found[1]}; the "
            f"record says {weights.recipe!r}, seed {weights.seed}",
            code="other_weights",
        )


def _stem(path: Path) -> str:
    """parity before parity-DEVICE, which "." and "-" would sort the other way round."""
    return path.stem


def _parity(path: Path, cfg: PretrainedCfg) -> MeasuredParity:
    report = read_report(path)
    _check_digest(path, report.weights_sha256, cfg.sha256)
    return MeasuredParity(path.name, report, dict(CONDITIONS.read(path)))


def _speed(measured: Path, architecture: str) -> tuple[Json, ...]:
    """What was measured of an architecture with any weights: time does not depend on them."""
    return tuple(_read_speed(path) for path in sorted(measured.glob(f"{architecture}.*/{SPEED}")))


def _read_speed(path: Path) -> Json:
    return dict(SPEED_DOCUMENT.read(path))
