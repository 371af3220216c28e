"""A model from a reference: its architecture, with its own weights, random ones or a file's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..catalog.arguments import as_text
from ..catalog.references import kind_of
from ..errors import ConfigError
from ..files.places import Directory, Repository
from ..weights.classifier import without_classifier
from .building import build
from .description import PretrainedCfg
from .resolve import Reference, resolve, stored

if TYPE_CHECKING:
    from torch import nn


def create_model(name: Reference, pretrained: bool = False, **overrides: Any) -> nn.Module:
    """Build a model of the zoo, in training mode.

    Args:
        name: a model reference: ``ARCH[.TAG][@X.Y.Z]``, a directory that training, import or export
            wrote, ``hf-hub:org/name[@revision]``, or ``timm:NAME``. ARCH may be an original's name
            such as ``hdvw:resnet_mcdo_50``: it brings the original's defaults (10 classes, the stem
            for small images) and takes the original's keywords too. A `Path` is a directory.
        pretrained: True loads weights: those that the tag and version in the name pick, by default
            the newest of the first tag. Verified by SHA-256 and loaded strictly.
            Nothing is drawn from the global random generator, unless for a new classifier.
        overrides: constructor keywords, e.g. ``num_classes``, ``in_chans``, ``img_size``,
            ``drop_path_rate``. With `pretrained`, another ``num_classes`` starts a new classifier,
            another ``in_chans`` sums or repeats the first convolution over channels, and another
            ``img_size`` resamples the position embedding, as timm does; nothing else may differ.
            ``features_only=True`` returns a list of maps, ``out_indices`` says which.
    Returns: the model; ``model.pretrained_cfg`` says what it is (`PretrainedCfg`, frozen).
    Raises:
        UnknownModelError: unknown name, tag or version; the nearest ones are named.
        ConfigError: an unknown or impossible keyword, a flag that is neither True nor False.
        NoWeightsError: `pretrained` and there are no weights to load.
        IntegrityError, WeightsMismatchError, IncompatibleWeightsError: see `zoo.weights`.
    Example:
        >>> model = zoo.create_model("convit_nano", pretrained=True).eval()
        >>> model(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """
    return build(resolve(name, pretrained, overrides))


def from_pretrained(name: Reference, revision: str = "main", **overrides: Any) -> nn.Module:
    """A model with its weights, from files that a manifest vouches for.

    Every file of a repository is compared with its manifest.json; weights are loaded strictly.

    Args:
        name: ``org/name`` of a repository that `convattn publish` wrote, a directory, or any other
            reference that `zoo.create_model` takes.
        revision: branch, tag or full commit hash of a repository.
        overrides: as `zoo.create_model`.
    Returns: the model, in training mode.
    Raises: NoWeightsError (code "no_manifest") for a repository without our manifest; ConfigError
        for the revision of something else;
        IntegrityError, NetworkError, ResourceError; and what `zoo.create_model` raises.
    Example:
        >>> model = zoo.from_pretrained("org/convit_nano", revision="v1.0.0").eval()
    """
    text, kind = as_text(name, "a model reference"), kind_of(name)
    if "@" in text and revision != "main":
        raise ConfigError(f"{text!r} names a revision already; got revision {revision!r} besides")
    maybe = kind == "directory" and isinstance(name, str)
    if kind == "hf-hub" or (maybe and not Directory(text).exists()):
        place = Repository.find(f"{text}@{revision}" if "@" not in text else text)
        place.require_manifest()
        return build(stored(place, True, overrides))
    if revision != "main":
        raise ConfigError(f"only a repository of the Hub has a revision; {text!r} is none")
    return build(resolve(name, True, overrides))


def create_random(name: str, seed: int, **overrides: Any) -> nn.Module:
    """A randomly initialised model whose every label says so: its tag is "random".

    The same seed gives the same weights on one version of torch; the global generator is untouched.

    Raises: ConfigError for a seed that is not in [0, 2^63).
    """
    import torch

    if not 0 <= seed < 2**63:
        raise ConfigError(f"a seed must be from 0 to 2^63 - 1; got {seed}")

    plan = resolve(name, False, overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(replace(plan, described=replace(plan.described, tag="random")))


def create_from_file(name: str, file: str, **overrides: Any) -> nn.Module:
    """A model with the weights of a file, loaded strictly; its tag is "custom".

    The file is safetensors or a checkpoint of PyTorch, which is read without running it; the number
    of classes and the image size are found in it, as `zoo.import_checkpoint` does.

    Raises: WeightsFileError, WeightsMismatchError, IntegrityError, ResourceError.
    """
    from .importing.fitting import find_target
    from .importing.importing import load_checkpoint

    found = load_checkpoint(file, find_target(name, overrides))
    cfg: PretrainedCfg = replace(found.model.pretrained_cfg, tag="custom", version="")
    digest = found.source["sha256"]
    found.model.pretrained_cfg = cfg.with_tensors(found.model, digest)
    return found.model


def load_model(
    name: str, weights: str | None = None, init: int | None = None, **overrides: Any
) -> nn.Module:
    """A model with its own weights, with those of the file `weights`, or with random ones.

    Args:
        init: seed of random weights.
    Raises: ConfigError for both; as `create_model`, `create_from_file`.
    """
    if weights is not None and init is not None:
        raise ConfigError("give --weights or --init, not both")
    if init is not None:
        return create_random(name, init, **overrides)
    if weights is None:
        return create_model(name, pretrained=True, **overrides)
    headless = overrides.get("num_classes") == 0  # the file has a classifier all the same
    if headless:
        del overrides["num_classes"]
    model = create_from_file(name, weights, **overrides)
    return without_classifier(model) if headless else model
