"""Blocks shared by families. Plain `nn.Module`s with keyword arguments; usable on their own."""

from .attention import Attention2d, MultiHeadSelfAttention
from .conv_attention import ConvAttention2d
from .csan import ConvolutionalSelfAttention
from .embeddings import PatchEmbed
from .global_context import GlobalContext
from .gpsa import GatedPositionalSelfAttention
from .positions import pad_to_multiple, resample_position_embedding
from .psa import PositionalSelfAttention
from .residual import DropPath, drop_path_rates
from .transformer import FeedForward, LayerNorm2d, Mlp, TransformerBlock
from .windows import LocalAttention

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
