"""What models with one `classifier` sequence share: its last layer is the linear classifier."""

from typing import Any

from torch import Tensor, nn

from ._base import ImageClassifier


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
