"""FCViT: convolutions and one global context per map instead of attention.

Ma, Wang, Qin, Li, Zhao, Fu, Fu 2022, *A Close Look at Spatial Modeling: From Attention to
Convolution*, arXiv:2212.12552. State-dict keys and numbers follow ma-xu/FCViT `models/fcvit.py`.
Where we differ on purpose: every setting is a keyword with the published value as default (upstream
edits one module-level dict), `in_chans` is honoured, unknown arguments are refused,
`reset_classifier` works, and an argument instead of an environment variable switches the norm of
the first dense-prediction feature.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..layers.global_context import ChannelMixer, TokenMixer
from ..layers.residual import DropPath, drop_path_rates, truncated_normal_
from ._base import ImageClassifier, check_image


class OverlapPatchEmbed(nn.Module):
    """A strided convolution with overlap, then BatchNorm.

    Shape: (B, in_chans, H, W) -> (B, embed_dim, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self, patch_size: int = 7, stride: int = 4, in_chans: int = 3, embed_dim: int = 768
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride, padding=patch_size // 2)
        self.norm = nn.BatchNorm2d(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))


class BasicBlock(nn.Module):
    """x + ls1 * token_mixer(norm1(x)), then x + ls2 * channel_mixer(norm2(x)), with drop path.

    Args:
        dim, mlp_ratio, drop, drop_path: as usual; the hidden width is int(dim * mlp_ratio).
        layer_scale_init_value: initial scale of both branches; None leaves the scales out.
        token_mixer, channel_mixer: further keywords of the two mixers.
    Shape: (B, C, H, W) -> the same. The norms have one group: over channels and positions jointly.
    """

    def __init__(
        self,
        dim: int,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        drop_path: float = 0.0,
        layer_scale_init_value: float | None = 1e-5,
        token_mixer: dict[str, Any] | None = None,
        channel_mixer: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, dim)
        self.token_mixer = TokenMixer(dim, **(token_mixer or {}))
        self.norm2 = nn.GroupNorm(1, dim)
        self.channel_mixer = ChannelMixer(dim, int(dim * mlp_ratio), drop, **(channel_mixer or {}))
        self.drop_path = DropPath(drop_path)
        for name in ("layer_scale_1", "layer_scale_2"):
            if layer_scale_init_value is None:
                self.register_parameter(name, None)
            else:
                self.register_parameter(
                    name, nn.Parameter(torch.full((dim,), float(layer_scale_init_value)))
                )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(_scaled(self.token_mixer(self.norm1(x)), self.layer_scale_1))
        return x + self.drop_path(_scaled(self.channel_mixer(self.norm2(x)), self.layer_scale_2))


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale[:, None, None]


class FCViT(ImageClassifier):
    """Overlapping patches, stages of blocks, strided convolutions between them, linear head.

    Args:
        in_chans, num_classes: as in timm; num_classes=0 returns the pooled embedding.
        layers, embed_dims, mlp_ratios: blocks, channels and hidden ratio per stage.
        downsamples: per stage, whether a 3x3 convolution of stride 2 follows (unused for the last);
            one follows anyway where the width changes.
        patch_size, patch_stride: of the patch embedding.
        mix_sizes ... spatial_att_reduction: of `TokenMixer`.
        dw_size, use_channel_att, channel_att_sizes: of `ChannelMixer`.
        layer_scale_init_value: initial scale of the branches; None leaves the scales out.
        drop_rate, drop_path_rate: dropout in channel mixers; stochastic depth of the last block
            (linear from 0).
        features_only: dense prediction. `forward` returns the list of all stages' outputs, each
            normalised on its own (`norm0`, `norm2`, ...); there is no head.
        first_feature_norm: normalise the first stage's feature too.
    Shape: (B, in_chans, H, W) -> (B, num_classes); any H, W (stage i: ceil(H / (stride * 2**i))).
    Raises: ValueError for lists of different lengths, even kernels, widths the heads do not divide.
    """

    head_name = "head"

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        layers: tuple[int, ...] = (2, 2, 6, 2),
        embed_dims: tuple[int, ...] = (64, 128, 320, 512),
        mlp_ratios: tuple[float, ...] = (8, 8, 4, 4),
        downsamples: tuple[bool, ...] = (True, True, True, True),
        patch_size: int = 7,
        patch_stride: int = 4,
        mix_sizes: tuple[int, int] = (11, 11),
        fc_factor: int = 8,
        fc_min_value: int = 16,
        gc_heads: int = 8,
        gc_reduction: int = 8,
        compete: bool = True,
        weighted_gc: bool = True,
        use_gc: bool = True,
        use_second_mix: bool = True,
        use_spatial_att: bool = False,
        spatial_att_size: int = 3,
        spatial_att_reduction: int = 8,
        dw_size: int = 3,
        use_channel_att: bool = False,
        channel_att_sizes: tuple[int, int] = (3, 5),
        layer_scale_init_value: float | None = 1e-5,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        features_only: bool = False,
        first_feature_norm: bool = True,
    ) -> None:
        super().__init__()
        if not len(layers) == len(embed_dims) == len(mlp_ratios) == len(downsamples):
            raise ValueError(
                "layers, embed_dims, mlp_ratios and downsamples need one entry per stage; got "
                f"{len(layers)}, {len(embed_dims)}, {len(mlp_ratios)}, {len(downsamples)}"
            )
        self.num_classes = 0 if features_only else num_classes
        self.num_features = embed_dims[-1]
        self.in_chans = in_chans
        self.features_only = features_only
        self.first_feature_norm = first_feature_norm
        mixing = {"mix_sizes": mix_sizes, "fc_factor": fc_factor, "fc_min_value": fc_min_value}
        context = {"gc_heads": gc_heads, "gc_reduction": gc_reduction, "weighted_gc": weighted_gc}
        gate = {"use_spatial_att": use_spatial_att, "spatial_att_size": spatial_att_size}
        channels = {"use_channel_att": use_channel_att, "channel_att_sizes": channel_att_sizes}
        block = {
            "drop": drop_rate,
            "layer_scale_init_value": layer_scale_init_value,
            "token_mixer": {
                **mixing,
                **context,
                **gate,
                "spatial_att_reduction": spatial_att_reduction,
                "use_gc": use_gc,
                "use_second_mix": use_second_mix,
                "compete": compete,
            },
            "channel_mixer": {**channels, "dw_size": dw_size},
        }
        self.patch_embed = OverlapPatchEmbed(patch_size, patch_stride, in_chans, embed_dims[0])
        self.network = nn.Sequential()
        self.feature_info = []
        rates = iter(drop_path_rates(drop_path_rate, sum(layers)))
        reduction = patch_stride
        for i, (depth, dim) in enumerate(zip(layers, embed_dims, strict=True)):
            if i > 0 and (downsamples[i - 1] or dim != embed_dims[i - 1]):
                self.network.append(OverlapPatchEmbed(3, 2, embed_dims[i - 1], dim))
                reduction *= 2
            where = f"network.{len(self.network)}"
            self.feature_info.append({"module": where, "num_chs": dim, "reduction": reduction})
            blocks = (
                BasicBlock(dim, mlp_ratios[i], drop_path=next(rates), **block) for _ in range(depth)
            )
            self.network.append(nn.Sequential(*blocks))
        if features_only:
            self._add_feature_norms()
        else:
            self.norm = nn.GroupNorm(1, self.num_features)
            self.head = self._make_classifier()
        self.apply(_init_weights)

    def _add_feature_norms(self) -> None:
        for i, info in enumerate(self.feature_info):
            normed = i > 0 or self.first_feature_norm
            self.add_module(
                _norm_of(info), nn.GroupNorm(1, info["num_chs"]) if normed else nn.Identity()
            )

    def make_features_only(self) -> None:
        """Become what `features_only=True` builds: norm and head go, norms of the stages come."""
        if self.features_only:
            return
        self.features_only, self.num_classes = True, 0
        del self.norm, self.head
        self._add_feature_norms()
        reference = next(self.parameters())
        self.to(device=reference.device, dtype=reference.dtype)

    def prune_intermediate_layers(self, *args: Any, **kwargs: Any) -> list[int]:
        everything = self.feature_info
        wanted = super().prune_intermediate_layers(*args, **kwargs)
        for i, info in enumerate(everything):
            if self.features_only and i not in wanted:
                delattr(self, _norm_of(info))
        return wanted

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, in_chans, H, W) -> logits (B, num_classes); the stages' maps if `features_only`."""
        return self._stage_features(x) if self.features_only else super().forward(x)

    def _stage_features(self, x: Tensor) -> list[Tensor]:
        x = self.patch_embed(self._prepared(x))
        norms = {info["module"]: _norm_of(info) for info in self.feature_info}
        features = []
        for name, module in self.network.named_children():
            x = module(x)
            norm = norms.get(f"network.{name}")
            if norm is not None:
                features.append(getattr(self, norm)(x))  # the trunk goes on without the norm
        return features

    def _parts(self) -> list[str]:
        return ["patch_embed", "network"] + ([] if self.features_only else ["norm"])

    def _final_norm(self, info: dict[str, Any]) -> nn.Module:
        if self.features_only:
            return getattr(self, _norm_of(info))
        return self.norm if info["num_chs"] == self.num_features else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> map (B, C, Gh, Gw), normalised unless `features_only`."""
        check_image(x, self.in_chans)
        x = self.network(self.patch_embed(x))
        return x if self.features_only else self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map (B, C, Gh, Gw) -> logits (B, num_classes); the mean (B, C) if `pre_logits`."""
        x = x.mean((2, 3))
        return x if pre_logits else self.get_classifier()(x)

    def similarity_maps(self, x: Tensor) -> list[Tensor]:
        """Similarity of every token to the average token in both contexts of the last block.

        The paper's figure 3. Standardised, not rescaled.
        Shape: (B, in_chans, H, W) -> two maps (B, gc_heads, Gh, Gw).
        Raises: ValueError if the contexts are off or unweighted.
        """
        check_image(x, self.in_chans)
        *stages, last = self.network
        x = self.patch_embed(x)
        for stage in (*stages, last[:-1]):
            x = stage(x)
        return last[-1].token_mixer.similarity_maps(last[-1].norm1(x))

    def get_classifier(self) -> nn.Module:
        return nn.Identity() if self.features_only else self.head

    def _set_classifier(self, classifier: nn.Module) -> None:
        if self.features_only:
            raise ConfigError(
                "a features_only model has no classifier; build it without features_only"
            )
        self.head = classifier

    def _make_classifier(self) -> nn.Module:
        classifier = super()._make_classifier()
        _init_weights(classifier)
        return classifier


def _norm_of(info: dict[str, Any]) -> str:
    return info["module"].replace("network.", "norm")


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        truncated_normal_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, std=math.sqrt(2 / (fan_out // module.groups)))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
