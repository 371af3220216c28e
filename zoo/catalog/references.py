"""What a model reference names: a registered model, a place, or somebody else's model. No torch.

``ARCH[.TAG][@X.Y.Z]`` | a directory that training, import, export or bundle wrote |
``hf-hub:org/name[@revision]`` | ``timm:NAME`` | ``torchvision:NAME`` | ``hf:DIR`` (transformers) |
``py:FILE.py:NAME`` (a class or function of one's own) | a single exported .onnx, .pt or .pt2 file.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from typing import Literal

from ..errors import UnknownModelError
from .arguments import as_text
from .names import check_names
from .registry import families

Kind = Literal["name", "directory", "file", "hf-hub", "timm", "torchvision", "hf", "py"]

_log = logging.getLogger(__name__)
_PREFIXES: tuple[Kind, ...] = ("hf-hub", "timm", "torchvision", "hf", "py")
_EXPORTED = (".onnx", ".pt", ".pt2")


def kind_of(reference: str | os.PathLike[str]) -> Kind:
    """What kind of reference a text is.

    A registered name is the registry's, whatever lies in the working directory; a folder of that
    name is spoken of once, and reached as ``./NAME``. Anything else that exists is a directory.

    Raises: ConfigError for what is neither text nor a path (`as_text`).
    """
    reference = as_text(reference, "a model reference")
    prefix, colon, _ = reference.partition(":")
    for kind in _PREFIXES:
        if colon and prefix == kind:
            return kind
    if reference.endswith(_EXPORTED):
        return "file"
    if os.sep in reference or "/" in reference:
        return "directory"
    if not os.path.isdir(reference):
        return "name"
    if not is_registered(reference):
        return "directory"
    _say_that_a_folder_is_passed_over(reference)
    return "name"


def is_registered(reference: str) -> bool:
    """Whether the architecture of ``ARCH[.TAG][@X.Y.Z]`` is known, by its name or an alias."""
    arch = re.split("[.@]", reference, maxsplit=1)[0]
    return any(arch in group.variants or arch in group.aliases for group in families().values())


@functools.cache
def _say_that_a_folder_is_passed_over(name: str) -> None:
    _log.warning(f"{name} is the registered model; the folder of that name is ./{name}")


def split_hub_reference(reference: str) -> tuple[str, str]:
    """``[hf-hub:]org/name[@revision]`` -> (repository, revision).

    Raises: UnknownModelError; ConfigError for a repository or revision that cannot be one.
    """
    repo, _, revision = reference.removeprefix("hf-hub:").partition("@")
    if repo.count("/") != 1:
        raise UnknownModelError(
            f"'hf-hub:{repo}' is not a Hub reference; expected hf-hub:org/name[@revision]"
        )
    check_names(repo, revision=revision)
    return repo, revision or "main"
