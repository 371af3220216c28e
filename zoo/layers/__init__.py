"""Blocks shared by families. Plain `nn.Module`s with keyword arguments; usable on their own."""

from .conv_attention import ConvAttention2d
from .drop_path import DropPath, drop_path_rates
from .gpsa import GatedPositionalSelfAttention, MultiHeadSelfAttention
from .mlp import Mlp
from .patch_embed import PatchEmbed
from .position import pad_to_multiple, resample_position_embedding
from .psa import PositionalSelfAttention
from .transformer import FeedForward, LayerNorm2d, TransformerBlock

__all__ = [
    "ConvAttention2d",
    "DropPath",
    "FeedForward",
    "GatedPositionalSelfAttention",
    "LayerNorm2d",
    "Mlp",
    "MultiHeadSelfAttention",
    "PatchEmbed",
    "PositionalSelfAttention",
    "TransformerBlock",
    "drop_path_rates",
    "pad_to_multiple",
    "resample_position_embedding",
]
