"""Entry points for torch.hub: one per model, e.g. ``torch.hub.load(REPO, "convit_nano")``.

`zoo` is loaded under a name that belongs to this checkout alone. So it meets no other package of
that name, and two releases live in one process side by side.
"""

import hashlib as _hashlib
import importlib.util as _util
import os as _os
import sys as _sys
from pathlib import Path as _Path
from typing import Any as _Any

dependencies = ["torch", "numpy", "einops", "safetensors", "PIL", "huggingface_hub"]

_DOC = """{summary}.

Paper: {paper}. Input: {input}. Weights: {weights}.

Args:
    pretrained: load weights, verified by SHA-256; else random initialisation.
    tag: which weights; by default the first one.
    version: "X.Y.Z" of the weights; by default the newest one of the tag.
    directory: one that train, import or export wrote: its configuration and weights instead.
    overrides: constructor keywords, e.g. num_classes, in_chans, img_size, drop_path_rate.
Returns:
    the model, in training mode: call .eval() for inference. model.pretrained_cfg holds what belongs
    to it: .labels names the logits, .transform() makes an input tensor from an image.
Example:
    >>> model = torch.hub.load(REPO, "{name}", pretrained={pretrained}).eval()
    >>> logits = model(model.pretrained_cfg.transform()("photo.jpg")[None])  # (1, num_classes)
"""


def _load_zoo(folder: _Path) -> _Any:
    """Import ``folder/zoo`` under an alias made of the folder's path, once per process."""
    alias = "_convattn_zoo_" + _hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    if alias in _sys.modules:
        return _sys.modules[alias]
    package = folder / "zoo"
    spec: _Any = _util.spec_from_file_location(
        alias, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    module = _sys.modules[alias] = _util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        module.list_models()  # the whole catalogue, so that a broken one leaves nothing behind
    except BaseException:
        for name in [n for n in _sys.modules if n == alias or n.startswith(alias + ".")]:
            del _sys.modules[name]
        raise
    return module


def _from_directory(name: str, directory: str, pretrained: bool, overrides: _Any) -> _Any:
    model = _zoo.create_model(_os.path.abspath(directory), pretrained, **overrides)
    found = model.pretrained_cfg.architecture
    if found != name:
        raise _zoo.errors.ConfigError(
            f"{directory!r} holds {found}, not {name}; call that entry instead"
        )
    return model


def _entry(name: str) -> _Any:
    """The builder of one model, with its documentation."""
    record = _zoo.get_record(name)

    def build(
        pretrained: bool = False,
        *,
        tag: str | None = None,
        version: str | None = None,
        directory: str | None = None,
        **overrides: _Any,
    ) -> _Any:
        if directory is not None:
            if tag or version:
                raise _zoo.errors.ConfigError(
                    f"directory={directory!r} has its own weights; leave out tag and version"
                )
            return _from_directory(name, directory, pretrained, overrides)
        reference = name + (f".{tag}" if tag else "") + (f"@{version}" if version else "")
        return _zoo.create_model(reference, pretrained, **overrides)

    summary = record.family.summary
    if record.description != summary:
        summary = f"{record.description}: {summary}"
    build.__name__ = build.__qualname__ = name
    build.__doc__ = _DOC.format(
        name=name,
        summary=summary[:1].upper() + summary[1:],
        paper=record.family.paper,
        input=" x ".join(map(str, (record.input.in_chans, *record.input.size))),
        weights=", ".join(w.name for w in record.weights) or "none published, train your own",
        pretrained=bool(record.weights),
    )
    return build


_zoo = _load_zoo(_Path(__file__).resolve().parent)
globals().update({_name: _entry(_name) for _name in _zoo.list_models()})
