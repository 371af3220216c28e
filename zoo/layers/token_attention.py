"""Self-attention on tokens, as how-do-vits-work has it everywhere (`models/attentions.py`).

Vaswani et al., *Attention Is All You Need*, arXiv:1706.03762, in the layout of vit-pytorch: no bias
in the q, k, v projection, and an inner width num_heads * head_dim that need not be the token width.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Attention1d(nn.Module):
    """softmax(q k^T / sqrt(hd) + mask) v per head, then a linear layer.

    Args:
        dim_in, dim_out: token widths in and out; `dim_out` defaults to `dim_in`.
        num_heads, head_dim: the inner width is num_heads * head_dim.
        dropout: dropout on the output.
    Shape: (B, N, dim_in) -> (B, N, dim_out).
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int | None = None,
        num_heads: int = 8,
        head_dim: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.scale = head_dim**-0.5
        inner = num_heads * head_dim
        self.to_qkv = nn.Linear(dim_in, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim_out or dim_in), nn.Dropout(dropout))

    def forward(self, x: Tensor, mask: Tensor | None = None, windows: int = 1) -> Tensor:
        """`mask` is added to the logits; it broadcasts to (B, nh, N, N).

        With `windows` the batch holds that many windows per image, image by image, and the mask
        (windows, 1, N, N) is shared by all images and heads.
        """
        tokens = x.shape[1]
        q, k, v = self._qkv(x)
        if windows > 1:  # windows become heads: the mask then broadcasts over any batch
            heads = windows * self.num_heads
            q, k, v = (t.reshape(-1, heads, tokens, self.head_dim) for t in (q, k, v))
            if mask is not None:
                mask = mask.expand(windows, self.num_heads, tokens, tokens).flatten(0, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        out = out.reshape(-1, self.num_heads, tokens, self.head_dim)
        return self.to_out(out.transpose(1, 2).flatten(2))

    def attention_weights(self, x: Tensor, mask: Tensor | None = None, windows: int = 1) -> Tensor:
        """Attention matrices. Shape: (B, N, C) -> (B, nh, N, N), rows sum to 1."""
        q, k, _ = self._qkv(x)
        logits = q @ k.transpose(-2, -1) * self.scale
        if mask is not None:
            logits = logits.unflatten(0, (-1, windows)) + mask if windows > 1 else logits + mask
        return logits.softmax(-1).reshape(-1, self.num_heads, x.shape[1], x.shape[1])

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.to_qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x (B, nh, N, hd)
        return q, k, v
