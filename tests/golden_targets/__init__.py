"""From the `build` entry of a golden case to our constructors: one module per original repository.

A module maps upstream paths to functions in `TARGETS`; a function receives the positional and
keyword arguments of the original constructor, already resolved, and returns a `Built`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ref:
    """A class or function of the original, named by its path, with bound keywords ($ref,
    $partial).
    """

    path: str
    kwargs: tuple[tuple[str, Any], ...] = ()


@dataclass
class Built:
    """Our module for an original one, and how to call it as the original is called.

    Args:
        module: the module whose state dict and taps are compared.
        call: ``call(module, inputs, kwargs) -> tensor or tuple``; None calls the module.
        methods: the same for the original's other methods, by name.
    """

    module: Any
    call: Callable[..., Any] | None = None
    methods: dict[str, Callable[..., Any]] | None = None


def bind(args: list[Any], kwargs: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """Original arguments by name, as Python would bind them.

    `defaults` lists all parameters in order; `...` marks a required one. Unknown names are a
    TypeError.
    """
    names = list(defaults)
    if len(args) > len(names):
        raise TypeError(f"takes {len(names)} positional arguments; got {len(args)}")
    values = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in defaults:
            raise TypeError(f"unexpected keyword {name!r}; known: {names}")
        if name in values:
            raise TypeError(f"{name!r} given twice")
        values[name] = value
    bound = {**defaults, **values}
    missing = [name for name, value in bound.items() if value is ...]
    if missing:
        raise TypeError(f"missing arguments {missing}")
    return bound


def expect(values: dict[str, Any], **allowed: Any) -> None:
    """Fail on arguments that our constructors express only at these values."""
    for name, value in allowed.items():
        if values.pop(name) != value:
            raise NotImplementedError(f"{name} other than {value!r} has no counterpart")


def _targets() -> dict[str, Callable[..., Built]]:
    found: dict[str, Callable[..., Built]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f".{info.name}", __name__)
        for path, function in module.TARGETS.items():
            if path in found:
                raise ValueError(f"target {path} is mapped twice")
            found[path] = function
    return found


def build(description: dict[str, Any]) -> Built:
    """Construct our counterpart of ``{"target", "args", "kwargs"}``. Raises on anything unknown."""
    target = description["target"]
    targets = _targets()
    if target not in targets:
        raise LookupError(f"no counterpart for the original constructor {target!r}")
    args = [_resolve(value) for value in description.get("args", [])]
    kwargs = {key: _resolve(value) for key, value in description.get("kwargs", {}).items()}
    return targets[target](*args, **kwargs)


def _resolve(value: Any) -> Any:
    if isinstance(value, list):
        return [_resolve(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return Ref(value["$ref"])
    if "$partial" in value:
        path, kwargs = value["$partial"]
        return Ref(path, tuple((key, _resolve(item)) for key, item in kwargs.items()))
    if "$tuple" in value:
        return tuple(_resolve(item) for item in value["$tuple"])
    if "$call" in value:
        return build(value["$call"])
    if "$update" in value:
        path, groups = value["$update"]
        return Ref(path, tuple((key, _resolve(item)) for key, item in groups.items()))
    return {key: _resolve(item) for key, item in value.items()}
