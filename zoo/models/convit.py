"""ConViT: a vision transformer whose first blocks use gated positional self-attention.

d'Ascoli, Touvron, Leavitt, Morcos, Biroli, Sagun 2021, arXiv:2103.10697. State-dict keys and
numbers follow facebookresearch/convit `convit.py` and `models.py` (LayerNorm eps 1e-6). Where we
differ on purpose: `embed_dim` is the total width; images of any size and aspect ratio run
(zero-padded to whole patches, position embedding resampled bicubically, relative positions by
`position_scaling`); half and double precision work; nothing is stored in `forward`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..layers.attention import MultiHeadSelfAttention
from ..layers.embeddings import PatchEmbed
from ..layers.exporting import prepend_token
from ..layers.gpsa import GatedPositionalSelfAttention
from ..layers.positions import patch_grid, resample_position_embedding, to_pair
from ..layers.residual import DropPath, drop_path_rates, truncated_normal_
from ..layers.transformer import Mlp
from ._base import ImageClassifier
from ._checkpointing import Step, on_grid


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)), each branch under stochastic depth.

    Args:
        dim, num_heads, mlp_ratio, drop, drop_path: as usual; the hidden width is int(dim *
            mlp_ratio).
        use_gpsa: gated positional attention, or plain multi-head attention.
        norm_eps: eps of both LayerNorms.
        attn: further keywords of the attention.
    Shape: (B, N, C), grid (H, W) -> (B, N, C). The grid is used by GPSA only.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        drop_path: float = 0.0,
        use_gpsa: bool = True,
        norm_eps: float = 1e-6,
        attn: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        attention = GatedPositionalSelfAttention if use_gpsa else MultiHeadSelfAttention
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = attention(dim, num_heads, proj_drop=drop, **(attn or {}))
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=drop)
        for layer in (self.mlp.fc1, self.mlp.fc2):
            _init_linear(layer)
        self.use_gpsa = use_gpsa

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        y = self.norm1(x)
        x = x + self.drop_path(self.attn(y, grid) if self.use_gpsa else self.attn(y))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ConViT(ImageClassifier):
    """Patch embedding, `local_up_to_layer` GPSA blocks, class token, self-attention blocks, linear
    head.

    Args:
        img_size: (height, width) or one number, in pixels: the size of the position embedding. Any
            other size may be passed to `forward`.
        patch_size, in_chans, num_classes: as in timm; num_classes=0 returns the class token.
        embed_dim: total width C (upstream's is per head).
        depth, num_heads, mlp_ratio, qkv_bias, qk_scale: of the blocks.
        drop_rate, attn_drop_rate, drop_path_rate: dropout after projections, on attention, and the
            stochastic depth of the last block (linear from 0).
        local_up_to_layer: number of GPSA blocks; the class token joins after them. If it is at
            least `depth`, the class token never joins and the head reads patch 0, as upstream.
        locality_strength, use_local_init: the convolutional initialisation (layers.gpsa).
        use_pos_embed: add a learned position embedding to the patches.
        position_scaling: "patch" or "image", what GPSA's reach keeps at another grid (layers.gpsa).
        base_img_size: the size in training, that "image" scaling refers to; default `img_size`.
        norm_eps: eps of all LayerNorms.
        gating, gate_init, freeze_gpsa: "learned", "fixed" or "none"; the gates' initial value;
            "none", "position" or "layer" (layers.gpsa: `freeze`). With `local_up_to_layer`,
            `use_local_init` and `locality_strength` they are the paper's ablations
            (docs/ablations.md).
    Shape: (B, in_chans, H, W) -> (B, num_classes).
    """

    head_name = "head"

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 192,
        depth: int = 12,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        local_up_to_layer: int = 10,
        locality_strength: float = 1.0,
        use_local_init: bool = True,
        use_pos_embed: bool = True,
        position_scaling: str = "patch",
        base_img_size: int | tuple[int, int] | None = None,
        norm_eps: float = 1e-6,
        gating: str = "learned",
        gate_init: float = 1.0,
        freeze_gpsa: str = "none",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.embed_dim = embed_dim
        self.in_chans = in_chans
        self.local_up_to_layer = local_up_to_layer
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        if use_pos_embed:
            tokens = patch_embed.grid[0] * patch_embed.grid[1]
            self.pos_embed = nn.Parameter(torch.zeros(1, tokens, embed_dim))
        else:
            self.register_parameter("pos_embed", None)
        self.patch_embed = patch_embed
        self.pos_drop = nn.Dropout(drop_rate)
        attn = {"qkv_bias": qkv_bias, "qk_scale": qk_scale, "attn_drop": attn_drop_rate}
        gpsa = {
            "locality_strength": locality_strength,
            "use_local_init": use_local_init,
            "base_grid": patch_grid(to_pair(base_img_size or img_size), patch_embed.patch_size),
            "position_scaling": position_scaling,
            "gating": gating,
            "gate_init": gate_init,
            "freeze": freeze_gpsa,
        }
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio,
                drop=drop_rate,
                drop_path=rate,
                use_gpsa=i < local_up_to_layer,
                norm_eps=norm_eps,
                attn={**attn, **gpsa} if i < local_up_to_layer else attn,
            )
            for i, rate in enumerate(drop_path_rates(drop_path_rate, depth))
        )
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.head = self._make_classifier()
        for parameter in (self.cls_token, self.pos_embed):
            if parameter is not None:
                truncated_normal_(parameter)
        reduction = patch_embed.patch_size[0]
        self.feature_info = [
            {
                "module": f"blocks.{i}",
                "num_chs": embed_dim,
                "reduction": reduction,
                "num_prefix_tokens": int(i >= local_up_to_layer),
            }
            for i in range(depth)
        ]

    def _trunk(self, size: tuple[int, int]) -> list[Step]:
        """(B, in_chans, H, W) -> normalised tokens (B, N + 1, C), class token first (see the
        class).
        """
        grid = self._token_grid(size)
        steps: list[Step] = [("patch_embed", self._embed)]
        for i, block in enumerate(self.blocks):
            if i == self.local_up_to_layer:
                steps.append(("cls_token", self._prepend_class_token))
            steps.append((f"blocks.{i}", on_grid(block, grid)))
        return [*steps, ("norm", self.norm)]

    def _token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return patch_grid(size, self.patch_embed.patch_size)

    def _final_norm(self, info: dict[str, Any]) -> nn.Module:
        return self.norm

    def _embed(self, x: Tensor) -> Tensor:
        x = self._prepared(x)
        grid = self.patch_embed.grid_of(x)
        x = self.patch_embed(x)
        if self.pos_embed is not None:
            x = x + resample_position_embedding(self.pos_embed, self.patch_embed.grid, grid)
        return self.pos_drop(x)

    def _prepend_class_token(self, x: Tensor) -> Tensor:
        return prepend_token(self.cls_token, x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Tokens (B, N, C) -> logits (B, num_classes); the first token (B, C) if `pre_logits`."""
        x = x[:, 0]
        return x if pre_logits else self.head(x)

    def _make_classifier(self) -> nn.Module:
        classifier = super()._make_classifier()
        _init_linear(classifier)
        return classifier


def _init_linear(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        truncated_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
