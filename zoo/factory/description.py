"""What a built model says of itself, in our words and in timm's. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ..catalog.weights_records import InputSpec
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..weights.fingerprint import Fingerprint

TIMM_PREFIX = "zoo_"  # our architectures in timm's registry and in a timm-format config.json
TIMM_HAS = ("convit_tiny", "convit_small", "convit_base")  # these keep timm's name in a config.json


@dataclass(frozen=True, kw_only=True)
class PretrainedCfg(Mapping[str, Any]):
    """What a built model is: set once by `zoo.create_model` as ``model.pretrained_cfg``.

    As a mapping it shows the same facts under timm's names (`input_size`, `mean`, ...), so that
    `timm.data.resolve_model_data_config` and its like take our models.

    Args:
        architecture: name of the model in the registry; empty for a module from elsewhere.
        architecture_version: of the code that computes it.
        tag, version: of the weights; empty for random initialisation.
        sha256: digest of the weights file, or empty if the weights were changed or are random.
            `of` compares: all tensors after `double()` and back, on another device, in a copy or a
            pickle count as unchanged, half precision does not.
        num_classes, labels: width of the logits and their names (may be empty).
        input: how to turn an image into the model's input.
        licence: of the weights.
        model_args: constructor keywords that differ from the registered model's.
        loaded: a digest, and what tells the tensors of that file from others.
    """

    architecture: str
    architecture_version: int
    num_classes: int
    input: InputSpec
    tag: str = ""
    version: str = ""
    sha256: str = ""
    labels: tuple[str, ...] = ()
    licence: str = ""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    loaded: tuple[str, Fingerprint] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """``architecture[.tag]``, or "anonymous"."""
        if not self.architecture:
            return "anonymous"
        return f"{self.architecture}.{self.tag}" if self.tag else self.architecture

    @property
    def is_foreign(self) -> bool:
        """Whether the architecture is somebody else's, as "timm:NAME"."""
        return ":" in self.architecture

    @property
    def timm_name(self) -> str:
        """What a timm-format config.json calls the architecture."""
        if self.architecture.startswith("timm:"):
            return self.architecture.removeprefix("timm:")
        return (
            self.architecture if self.architecture in TIMM_HAS else TIMM_PREFIX + self.architecture
        )

    def _as_timm(self) -> dict[str, Any]:
        spec = self.input.to_dict()
        return {
            "architecture": self.timm_name,
            "tag": self.tag,
            "custom_load": False,
            **{key: tuple(v) if isinstance(v, list) else v for key, v in spec.items()},
            "fixed_input_size": False,
            "crop_mode": "center",
            "num_classes": self.num_classes,
            "label_names": self.labels or None,
            "license": self.licence.lower(),
        }

    def __getitem__(self, key: str) -> Any:
        return self._as_timm()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._as_timm())

    def __len__(self) -> int:
        return len(self._as_timm())

    def transform(self) -> Any:
        """A callable from an image (path, PIL image or uint8 array) to a float tensor (C, H, W)."""
        from ..data.preprocessing import build_transform

        return build_transform(self.input)

    def with_tensors(self, model: Any, sha256: str) -> PretrainedCfg:
        """The same of a model that has the tensors of the file with this digest."""
        from ..weights.fingerprint import fingerprint

        return replace(self, sha256=sha256, loaded=(sha256, fingerprint(model)))

    def changed(self) -> PretrainedCfg:
        """The same of weights that are no published version's, and no file's, any more."""
        return replace(self, version="", sha256="", loaded=None)

    def with_classes(self, num_classes: int) -> PretrainedCfg:
        """The same with another classifier, which is new unless it is none."""
        cfg = replace(
            self,
            num_classes=num_classes,
            labels=self.labels if num_classes == self.num_classes else (),
            model_args={**self.model_args, "num_classes": num_classes},
        )
        return cfg.changed() if num_classes else cfg

    @classmethod
    def of(cls, model: Any) -> PretrainedCfg | None:
        """What a model is now, or None if the zoo did not build it.

        If it has other weights than were loaded, its description names no version and no digest. A
        model that torch.hub loaded carries that checkout's own class: it is converted by its
        fields.
        """
        found = getattr(model, "pretrained_cfg", None)
        if isinstance(found, cls):
            return found._now(model)
        if type(found).__name__ != cls.__name__:
            return None
        values = {entry.name: getattr(found, entry.name) for entry in fields(cls)}
        values["input"] = InputSpec.from_dict(values["input"].to_dict())
        return cls(**values)._now(model)

    def _now(self, model: Any) -> PretrainedCfg:
        from ..weights.fingerprint import has_tensors

        cfg, classes = self, getattr(model, "num_classes", self.num_classes)
        if hasattr(model, "reset_classifier") and classes != self.num_classes:  # timm's say nothing
            cfg = self.with_classes(classes)
        if not cfg.sha256 or cfg.loaded is None or cfg.loaded[0] != cfg.sha256:
            return cfg
        bare = cfg.num_classes == 0
        return cfg if has_tensors(model, cfg.loaded[1], without_classifier=bare) else cfg.changed()


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a user says of a model in place of what it says itself; None leaves that.

    Args:
        labels: one name for each class.
        mean, std: of each channel, for values in [0, 1].
        crop_pct: see `InputSpec`.
        interpolation: "bicubic", "bilinear" or "nearest".
    """

    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None

    def about(self, cfg: PretrainedCfg) -> PretrainedCfg:
        """The description with these values. Raises: ConfigError for another number of labels."""
        labels = cfg.labels if self.labels is None else self.labels
        if self.labels is not None and len(labels) != cfg.num_classes:
            raise ConfigError(
                f"{cfg.name} has {cfg.num_classes} classes; got {len(labels)} labels", code="labels"
            )
        names = ("mean", "std", "crop_pct", "interpolation")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        for name in ("mean", "std"):
            if len(given.get(name, cfg.input.mean)) != cfg.input.in_chans:
                raise ConfigError(
                    f"{cfg.name} takes {cfg.input.in_chans} channels; got {name} {given[name]}",
                    code="input_spec",
                )
        return replace(cfg, labels=labels, input=replace(cfg.input, **given))
