"""Blocks shared by families. Plain `nn.Module`s with keyword arguments; usable on their own."""

from .conv_attention import ConvAttention2d
from .csan import ConvolutionalSelfAttention
from .drop_path import DropPath, drop_path_rates
from .global_context import GlobalContext
from .gpsa import GatedPositionalSelfAttention, MultiHeadSelfAttention
from .local_attention import Attention2d, LocalAttention
from .mlp import Mlp
from .patch_embed import PatchEmbed
from .position import pad_to_multiple, resample_position_embedding
from .psa import PositionalSelfAttention
from .transformer import FeedForward, LayerNorm2d, TransformerBlock

__all__ = [
    "Attention2d",
    "ConvAttention2d",
    "ConvolutionalSelfAttention",
    "DropPath",
    "FeedForward",
    "GatedPositionalSelfAttention",
    "GlobalContext",
    "LayerNorm2d",
    "LocalAttention",
    "Mlp",
    "MultiHeadSelfAttention",
    "PatchEmbed",
    "PositionalSelfAttention",
    "TransformerBlock",
    "drop_path_rates",
    "pad_to_multiple",
    "resample_position_embedding",
]
