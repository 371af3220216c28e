"""Models from Hub repositories: ``hf-hub:org/name[@revision]`` and `from_pretrained`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import NetworkError, NoWeightsError, UnknownModelError
from .manifest import FILE as MANIFEST
from .manifest import parse_manifest
from .references import build_from_config, parse_config

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def split_hub_reference(reference: str) -> tuple[str, str]:
    """``org/name[@revision]`` -> (repository, revision). Raises: UnknownModelError."""
    repo, _, revision = reference.partition("@")
    if repo.count("/") != 1:
        raise UnknownModelError(
            f"'hf-hub:{reference}' is not a Hub reference; expected hf-hub:org/name[@revision]"
        )
    return repo, revision or "main"


def create_from_hub(reference: str, pretrained: bool, overrides: Mapping[str, Any]) -> nn.Module:
    """The model of ``hf-hub:reference``, its files compared with the digests that the server and
    config.json state. Errors as `zoo.create_model`.
    """
    from .hub import fetch_file

    repo, revision = split_hub_reference(reference)
    data, commit = fetch_file(repo, CONFIG, revision)
    config = parse_config(data, f"{CONFIG} of {repo}")
    weights, stated = None, ""
    if pretrained:
        stated = config.get("convattn", {}).get("weights_sha256", "")
        weights, _ = fetch_file(repo, WEIGHTS, commit, sha256=stated)
    return build_from_config(config, weights, f"{WEIGHTS} of {repo}", overrides, stated)


def from_pretrained(repo: str, revision: str = "main", **overrides: Any) -> nn.Module:
    """A model with its weights from a repository that `convattn publish` wrote.

    Every file is compared with the repository's manifest.json, and weights are loaded strictly.

    Args:
        repo: ``org/name``.
        revision: branch, tag or full commit hash.
        overrides: as `zoo.create_model`.
    Returns: the model, in training mode.
    Raises: NoWeightsError (code "no_manifest") for a repository without our manifest;
        IntegrityError, NetworkError, ResourceError; and what `zoo.create_model` raises.
    Example:
        >>> model = zoo.from_pretrained("org/convit_nano", revision="v1.0.0").eval()
    """
    from .hub import fetch_file

    repo, revision = split_hub_reference(f"{repo}@{revision}")
    try:
        data, commit = fetch_file(repo, MANIFEST, revision)
    except NetworkError as error:
        if error.code != "no_file":
            raise
        raise NoWeightsError(
            f"{repo} has no {MANIFEST}, so nothing says what its files should be; "
            f'zoo.create_model("hf-hub:{repo}", pretrained=True) trusts the digests of the Hub',
            code="no_manifest",
        ) from None
    manifest = parse_manifest(data, f"{MANIFEST} of {repo}")
    config_bytes, _ = fetch_file(repo, CONFIG, commit, sha256=manifest.digest(CONFIG))
    digest = manifest.digest(WEIGHTS)
    weights, _ = fetch_file(repo, WEIGHTS, commit, sha256=digest)
    config = parse_config(config_bytes, f"{CONFIG} of {repo}")
    return build_from_config(config, weights, f"{WEIGHTS} of {repo}", overrides, digest)
