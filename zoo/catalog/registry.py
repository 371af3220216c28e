"""Find models by name: discover the catalogue, parse ``arch.tag@version``, list, suggest. No
torch.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import importlib
import os
import pkgutil
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..errors import ConfigError, DuplicateNameError, UnknownModelError, ZooError
from .arguments import as_text, check_flags
from .checked_json import MAX_BYTES, Document, shown
from .records import Family, ModelRecord
from .regular_files import read_regular_file
from .weights_records import VERSION, CheckpointRecord, InputSpec, WeightsRecord

_registered: list[WeightsRecord] = []  # added at run time by `register_weights`
_catalogs_read: set[str] = set()
_ENTRY = Document(WeightsRecord, "weights record", "record", "see zoo.WeightsRecord")
_CATALOG: Document[list[Any]] = Document(
    list[Any], "JSON list of weights records", "catalog", "correct it, or unset CONVATTN_CATALOG"
)
_LIBRARIES = {
    "timm": "timm.list_models(pattern)",
    "torchvision": "torchvision.models.list_models()",
}  # prefix of a reference -> what lists them
_REFERENCE = re.compile(r"(?P<arch>[^.@]+)(\.(?P<tag>[^@]+))?(@(?P<version>.+))?")


@functools.cache
def families() -> dict[str, Family]:
    """All families of the catalogue by name. Raises: DuplicateNameError."""
    found: dict[str, Family] = {}
    owner: dict[str, str] = {}
    package = importlib.import_module(".families", __package__)
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        if module.startswith("_"):
            continue
        family: Family = importlib.import_module(f".families.{module}", __package__).FAMILY
        _refuse_duplicate(found, family.name, "family")
        found[family.name] = family
        for name in (*family.variants, *family.aliases):
            _refuse_duplicate(owner, name, "model")
            owner[name] = family.name
        _refuse_duplicate_weights(family.weights)
        _refuse_duplicate_weights(family.checkpoints)
    return found


def _refuse_duplicate(known: dict[str, Any], name: str, what: str) -> None:
    if name in known:
        raise DuplicateNameError(f"the {what} name {name!r} is taken; choose another")


def _refuse_duplicate_weights(records: Iterable[WeightsRecord | CheckpointRecord]) -> None:
    seen: set[str] = set()
    for record in records:
        if record.name in seen:
            raise DuplicateNameError(
                f"weights {record.name} are registered already; published versions never change, "
                "so choose a new version"
            )
        seen.add(record.name)


def list_families() -> list[str]:
    """Names of all families, sorted."""
    return sorted(families())


def list_models(
    filter: str | Sequence[str] = "",
    *,
    family: str | None = None,
    pretrained: bool = False,
    with_tags: bool = False,
    aliases: bool = False,
) -> list[str]:
    """Names of models, in the order of the catalogue.

    Args:
        filter: a shell pattern or several, e.g. ``"convit*"``; empty means all.
        family: only this family.
        pretrained: only models whose weights load without an import step.
        with_tags: one entry ``arch.tag`` per set of weights instead of one per architecture,
            without `pretrained` also for those that must be imported.
        aliases: originals' names too, e.g. ``hdvw:vit_ti``, after the models of their family.
    Raises: UnknownModelError for an unknown family; ConfigError for a flag that is none.
    Example: ``list_models("conv*t_nano", pretrained=True)`` gives
        ``["conv_attention_vit_nano", "convit_nano"]``.
    """
    check_flags(pretrained=pretrained, with_tags=with_tags, aliases=aliases)
    _load_user_catalog()
    if family is not None and family not in families():
        raise UnknownModelError(_unknown("family", family, list_families()))
    patterns = [filter] if isinstance(filter, str) else list(filter)
    patterns = [p for p in patterns if p] or ["*"]
    names: list[str] = []
    for group in families().values():
        if family is not None and group.name != family:
            continue
        named = {name: name for name in group.variants}
        named |= {alias: group.aliases[alias][0] for alias in group.aliases if aliases}
        for name, model in named.items():
            tags = _tags_of(group, model, pretrained)
            if with_tags:
                names += [f"{name}.{tag}" for tag in tags]
            elif tags or not pretrained:
                names.append(name)
    return [name for name in names if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def _tags_of(family: Family, model: str, pretrained: bool) -> tuple[str, ...]:
    """Tags of a model, each once; with `pretrained` only those that load without an import."""
    known: list[WeightsRecord | CheckpointRecord] = [*_weights_of(family, model)]
    if not pretrained:
        known += _checkpoints_of(family, model)
    return tuple(dict.fromkeys(record.tag for record in known))


def split_reference(reference: str) -> tuple[str, str | None, str | None]:
    """``"arch[.tag][@X.Y.Z]"`` -> (arch, tag, version). Raises: UnknownModelError if malformed."""
    reference = as_text(reference, "a model name")
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UnknownModelError(
            f"{reference!r} is not a model name; expected ARCH[.TAG][@X.Y.Z], e.g. "
            f"convit_nano.digits"
        )
    version = match["version"]
    if version is not None and not VERSION.fullmatch(version):
        raise UnknownModelError(f"the version in {reference!r} must be X.Y.Z, e.g. @1.0.0")
    return match["arch"], match["tag"], version


def get_record(reference: str) -> ModelRecord:
    """Everything known about ``arch[.tag][@version]``; arch may be an alias like ``hdvw:vit_ti``.

    Without a tag the family's first one is selected, without a version the newest of that tag.
    Raises: UnknownModelError, with the nearest names.
    """
    _load_user_catalog()
    arch, tag, version = split_reference(reference)
    known = families().values()
    family = next((f for f in known if arch in f.variants or arch in f.aliases), None)
    if family is None:
        raise UnknownModelError(_unknown_model(arch))
    name, alias_config = family.aliases.get(arch, (arch, {}))
    weights, checkpoints = _weights_of(family, name), _checkpoints_of(family, name)
    selected, checkpoint = _select(name, weights, checkpoints, tag, version)
    return ModelRecord(
        name=name,
        family=family,
        config={**family.variants[name], **alias_config},
        input=family.inputs.get(name, family.input),
        weights=weights,
        selected=selected,
        checkpoints=checkpoints,
        checkpoint=checkpoint,
        alias=arch if arch in family.aliases else "",
        alias_config=alias_config,
    )


def _unknown_model(arch: str) -> str:
    names = [name for family in families().values() for name in family.variants]
    aliases = [name for family in families().values() for name in family.aliases]
    if ":" in arch:
        library = arch.partition(":")[0]
        if library in _LIBRARIES:
            return f"{arch!r} is not in the catalogue: {_LIBRARIES[library]} lists such models"
        return _unknown("alias", arch, aliases) + "; `convattn list --aliases` shows all"
    names += [alias for alias in aliases if alias.partition(":")[2] == arch]
    return (
        _unknown("model", arch, names) + "; `convattn list` shows all, and timm:NAME or "
        "torchvision:NAME takes theirs"
    )


def _weights_of(family: Family, arch: str) -> tuple[WeightsRecord, ...]:
    found = [w for w in (*family.weights, *_registered) if w.model == arch]
    tags = list(dict.fromkeys(w.tag for w in found))
    found.sort(key=lambda w: (tags.index(w.tag), [-part for part in w.version_key]))
    return tuple(found)


def _checkpoints_of(family: Family, arch: str) -> tuple[CheckpointRecord, ...]:
    return tuple(c for c in family.checkpoints if c.model == arch)


def _select(
    arch: str,
    weights: tuple[WeightsRecord, ...],
    checkpoints: tuple[CheckpointRecord, ...],
    tag: str | None,
    version: str | None,
) -> tuple[WeightsRecord | None, CheckpointRecord | None]:
    """What a tag and a version pick: weights that load, and the file to import for the same tag."""
    tags = list(dict.fromkeys([w.tag for w in weights] + [c.tag for c in checkpoints]))
    if tag is None and not tags:
        if version is None:
            return None, None
        raise UnknownModelError(
            f"{arch} has no version {version}: it has no weights", code="unknown_version"
        )
    tag = tag or tags[0]
    if tag not in tags:
        have = f"it has {', '.join(tags)}" if tags else "it has no weights"
        near = difflib.get_close_matches(tag, tags, 1)
        hint = f"; did you mean {arch}.{near[0]}?" if near else ""
        raise UnknownModelError(f"{arch} has no tag {tag!r}; {have}{hint}", code="unknown_tag")
    checkpoint = next((c for c in checkpoints if c.tag == tag), None)
    candidates = [w for w in weights if w.tag == tag]
    if version is None:
        return (candidates[0] if candidates else None), checkpoint
    for record in candidates:
        if record.version == version:
            return record, checkpoint
    have = ", ".join(w.version for w in candidates) or "none, it must be imported"
    raise UnknownModelError(
        f"{arch}.{tag} has no version {version}; it has {have}", code="unknown_version"
    )


def timm_checkpoints() -> tuple[CheckpointRecord, ...]:
    """Published checkpoints of models that timm builds, ``timm:NAME.tag``."""
    module = importlib.import_module(".families._timm", __package__)
    found: tuple[CheckpointRecord, ...] = module.CHECKPOINTS
    return found


def list_checkpoints() -> list[CheckpointRecord]:
    """All files that `convattn import` knows by name."""
    return [*(c for f in families().values() for c in f.checkpoints), *timm_checkpoints()]


def _unknown(what: str, name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), 3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"unknown {what} {name!r}{hint}"


def register_weights(record: WeightsRecord) -> None:
    """Add weights at run time, e.g. of a private Hub repository.

    Raises: ConfigError for what is no record, UnknownModelError if the model does not exist,
        DuplicateNameError if the same (model, tag, version) does: published versions never change.
    """
    if not isinstance(record, WeightsRecord):
        raise _ENTRY.refusal("this", f"got {shown(record)}")
    known = get_record(record.model).weights
    _refuse_duplicate_weights((*known, record))
    _registered.append(record)


def weights_from_dict(values: dict[str, Any]) -> WeightsRecord:
    """Build a record from JSON values (`CONVATTN_CATALOG` files). Raises: ConfigError."""
    stated = values.get("input") if isinstance(values, dict) else None
    if isinstance(values, dict):
        values = {"architecture_versions": (1,), **values, "input": None}
    record = _ENTRY.check(values, "an entry")
    return record if stated is None else replace(record, input=InputSpec.from_dict(stated))


def _read_catalog(path: str) -> None:
    name = f"CONVATTN_CATALOG={path!r}"
    entries = _CATALOG.parse(read_regular_file(path, "CONVATTN_CATALOG", MAX_BYTES), name)
    try:
        records = [weights_from_dict(entry) for entry in entries]
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}", code="catalog") from None
    before = list(_registered)
    try:
        for record in records:
            register_weights(record)
    except ZooError:
        _registered[:] = before
        raise


def _load_user_catalog() -> None:
    path = os.environ.get("CONVATTN_CATALOG")
    if path and path not in _catalogs_read:
        _catalogs_read.add(path)  # before reading: registering looks names up again
        try:
            _read_catalog(path)
        except BaseException:  # raised again: the next look-up reads the file anew, and says so too
            _catalogs_read.discard(path)
            raise
