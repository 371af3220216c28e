"""What timm users find on every model, written once: heads, embeddings, feature info."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError, InputError
from ._checkpointing import SteppedModel


class ImageClassifier(SteppedModel):
    """forward = forward_head(forward_features(x)).

    Subclasses set `num_classes`, `num_features` (width before the classifier) and `feature_info`
    (dicts with `module`, `num_chs`, `reduction`, and `num_prefix_tokens` where class tokens come
    first, in order of execution), and implement `forward_features` and `forward_head`. `head_name`
    is the name of the child that turns features into logits, "classifier" unless they say another
    ("head"); where that child is not the linear classifier itself, they also implement
    `get_classifier` and `_set_classifier`. A model that does not pad small images sets `min_size`.
    `SteppedModel` says what else there is.
    """

    num_classes: int
    num_features: int
    in_chans: int
    any_size: bool = True  # forward pads by itself and has no branch on the size of images
    min_size: int = 1  # smallest side of an image, in pixels; smaller ones are refused
    pretrained_cfg: Any = None  # set by `zoo.create_model`

    @property
    def default_cfg(self) -> Any:
        """timm's older name of `pretrained_cfg`."""
        return self.pretrained_cfg

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) float -> logits (B, num_classes), or embeddings if num_classes is
        0.
        """
        return self.forward_head(self.forward_features(x))

    def _prepared(self, x: Tensor) -> Tensor:
        check_image(x, self.in_chans)
        if min(x.shape[2:]) < self.min_size:
            raise InputError(self._too_small(x.shape[2], x.shape[3]))
        return x

    def _too_small(self, height: int, width: int) -> str:
        return (
            f"{type(self).__name__} needs images of at least {self.min_size} x {self.min_size} "
            f"pixels; got {height} x {width}"
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> what the last step before the head gives."""
        x = self._prepared(x)
        for _, step in self._trunk((x.shape[2], x.shape[3])):
            x = step(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        raise NotImplementedError

    def get_classifier(self) -> nn.Module:
        """The last linear layer (`nn.Identity` if num_classes is 0)."""
        classifier: nn.Module = getattr(self, self.head_name)
        return classifier

    def _set_classifier(self, classifier: nn.Module) -> None:
        setattr(self, self.head_name, classifier)

    def _make_classifier(self) -> nn.Module:
        classes = self.num_classes
        return nn.Linear(self.num_features, classes) if classes > 0 else nn.Identity()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one for `num_classes` (0: none, embeddings).

        `pretrained_cfg` then says what it would of ``create_model(..., num_classes=num_classes)``,
        and no digest of a file, as the new classifier is in none.

        Raises: ConfigError unless `num_classes` is an integer, at least 0, and for a
            `global_pool`, which is fixed by the architecture.
        """
        if (
            not isinstance(num_classes, Integral)
            or isinstance(num_classes, bool)
            or num_classes < 0
        ):
            raise ConfigError(
                f"{type(self).__name__}: num_classes must be an integer, at least 0; got "
                f"{num_classes!r:.80}"
            )
        if global_pool is not None:
            raise ConfigError(
                f"{type(self).__name__} pools as its paper does; global_pool={global_pool!r} "
                "cannot be changed, leave it out"
            )
        self.num_classes = int(num_classes)
        reference = next(self.parameters())
        classifier = self._make_classifier()
        self._set_classifier(classifier.to(device=reference.device, dtype=reference.dtype))
        if hasattr(self.pretrained_cfg, "with_classes"):
            self.pretrained_cfg = self.pretrained_cfg.with_classes(self.num_classes)


def check_image(x: Tensor, in_chans: int) -> None:
    """Raise InputError unless `x` is a floating-point batch (B, in_chans, H, W)."""
    if x.ndim != 4 or x.shape[1] != in_chans:
        raise InputError(
            f"expected a batch of images (B, {in_chans}, H, W); got shape {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise InputError(
            f"expected floating-point images; got {x.dtype}: model.pretrained_cfg.transform() "
            "makes an input from an image"
        )


class SequentialHeadClassifier(ImageClassifier):
    """Subclasses set `classifier`, a sequence from features to logits, and `forward_features`."""

    classifier: nn.Sequential

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> logits (B, num_classes), or the embedding (B, C) if `pre_logits`."""
        return self.classifier[:-1](x) if pre_logits else self.classifier(x)

    def _final_norm(self, info: dict[str, Any]) -> nn.Module:
        """The LayerNorm of the tokens; one that comes behind an average is for vectors only."""
        for layer in self.classifier[:-1]:
            if isinstance(layer, nn.AdaptiveAvgPool2d):
                break
            if isinstance(layer, nn.LayerNorm) and layer.normalized_shape == (info["num_chs"],):
                return layer
        return nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.classifier[-1]

    def _set_classifier(self, classifier: nn.Module) -> None:
        self.classifier[-1] = classifier
