"""What wrappers put before the names of a model's tensors, taken off or named. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")
Differences = tuple[list[str], list[str], list[str]]  # missing, unexpected, of another shape
# DataParallel, torch.compile, Lightning (its modules and strategies), what users call their model
_PREFIXES = ("module.", "_orig_mod.", "_forward_module.", "model.", "net.", "network.", "encoder.")
_COUNTERS = ("n_averaged",)  # of torch.optim.swa_utils.AveragedModel, beside "module."
_BACKBONE = "backbone."


def strip_prefix(
    tensors: Mapping[str, T], known: Collection[str] = ()
) -> tuple[dict[str, T], str, list[str]]:
    """Names without what wrappers put before them; the prefix; names outside of it.

    Args:
        known: names that the model has: a prefix that makes one of them is a wrapper's, and so is
            any other that makes all of them. Without, only prefixes that all names share are.
    """
    only = full_prefixes(tensors, known)
    if len(only) == 1 and not any(name in tensors for name in known):
        prefix = only[0]
        outside = [key for key in tensors if not key.startswith(prefix)]
        inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        return inside, prefix, outside
    found = {key: value for key, value in tensors.items() if key not in _COUNTERS}
    outside, prefix = [key for key in tensors if key in _COUNTERS], ""
    while part := next((p for p in _PREFIXES if _wraps(p, found, known)), ""):
        outside += [prefix + key for key in found if not key.startswith(part)]
        found = {k.removeprefix(part): v for k, v in found.items() if k.startswith(part)}
        prefix += part
    if not any(key.startswith(_BACKBONE) for key in found):
        return found, prefix, outside
    outside += [prefix + key for key in found if not key.startswith(_BACKBONE)]
    inside = {k.removeprefix(_BACKBONE): v for k, v in found.items() if k.startswith(_BACKBONE)}
    return inside, prefix + _BACKBONE, outside


def full_prefixes(names: Collection[str], known: Collection[str]) -> list[str]:
    """Prefixes under which all names of a model are found."""
    if not known:
        return []
    longest = max(known, key=len)
    ends = {name.removesuffix(longest) for name in names if name.endswith(f".{longest}")}
    return sorted(p for p in ends if all(f"{p}{name}" in names for name in known))


def _wraps(part: str, names: Collection[str], known: Collection[str]) -> bool:
    """Whether a prefix is a wrapper's: all names have it, or those that have it are the model's."""
    inside = [name.removeprefix(part) for name in names if name.startswith(part)]
    if not inside or any(name in known for name in names):
        return False
    return len(inside) == len(names) or any(name in known for name in inside)


def few_differences(missing: list[str], unexpected: list[str], wrong: list[str]) -> Differences:
    """Prefixes in place of lists where nearly every name is missing, and others are there."""
    firsts = {name.partition(".")[0] for name in missing}
    beginnings = {f"{name.partition('.')[0]}." for name in unexpected if "." in name}
    strange = sorted(part for part in beginnings if part[:-1] not in firsts)
    share = sum(name.startswith(tuple(strange)) for name in unexpected)
    if share < 2 or share < len(unexpected) - 2 or len(missing) < share:
        return missing, unexpected, wrong
    count = "all" if share == len(unexpected) else f"{share} of {len(unexpected)}"
    return [], [f"{count} names begin with {some(strange)}"], wrong


def some(prefixes: list[str]) -> str:
    """The first two of them, quoted."""
    more = f" and {len(prefixes) - 2} more" if len(prefixes) > 2 else ""
    return " or ".join(repr(p[:40]) for p in prefixes[:2]) + more
