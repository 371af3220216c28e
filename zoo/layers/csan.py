"""Convolutional self-attention over a window of tokens, and over neighbouring heads.

Yang, Wang, Wong, Chao, Tu, *Convolutional Self-Attention Networks*, NAACL 2019, arXiv:1904.03107;
the numbers are those of the authors' `layers/attention_conv.py`
(github.com/baosongyang/Context-Aware-SAN), which fixes a window of 11 tokens and 3 heads. Where we
differ on purpose: window and heads are parameters; a query all of whose keys are masked returns
zeros (upstream averages arbitrary entries); `neighbours` offers borders that agree. As upstream,
all m * N * N logits are computed, and those outside the window are masked. The image form, with a
window in both directions of a map, is `ConvAttention2d`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .attention import check_heads

NEIGHBOURS = ("wrap_keys", "wrap", "clamp")
_EXCLUDED = -1e8  # additive masks at or below this exclude a key: upstream's padding is -1e9


class ConvolutionalSelfAttention(nn.Module):
    """Attention of each token to the tokens at most w away, in its own and in neighbouring heads.

    Head i at token t has the keys (j, s), j = i + o for o in `head_offsets`, |t - s| <= w:
    out[t, i] = sum_(j, s) softmax_(j, s)(q[t, i] . k[s, j] / sqrt(hd)) v[s, j], one softmax over
    all of them, then a linear layer. Offsets (0,) are the 1-D form, (-1, 0, 1) upstream's 2-D form,
    whose second dimension is the heads.

    Args:
        dim: token width C, divisible by `num_heads` unless `head_dim` is given.
        half_width: window w; a token sees 2w + 1 tokens. None: all tokens.
        head_offsets: neighbouring heads, in the order of the attention's last axis.
        neighbours: heads beyond the first and the last. "wrap_keys" as upstream: keys wrap around
            and values repeat the outermost head, so that the two differ there; "wrap" and "clamp"
            treat both alike.
        head_dim: channels per head; the inner width is num_heads * head_dim.
        dim_out: width of the output, C by default.
        attn_drop, proj_drop: dropout on the attention and on the output.
    Shape: (B, N, C) -> (B, N, dim_out), any N.
    Raises: ValueError if dim is not divisible by num_heads, or for an impossible window, list of
        heads or `neighbours`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        half_width: int | None = 5,
        head_offsets: tuple[int, ...] = (-1, 0, 1),
        neighbours: str = "wrap_keys",
        head_dim: int | None = None,
        dim_out: int | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if head_dim is None:
            check_heads(dim, num_heads)
        _check_neighbourhood(half_width, head_offsets, neighbours)
        self.num_heads = num_heads
        self.head_dim = head_dim or dim // num_heads
        self.half_width = half_width
        self.head_offsets = tuple(head_offsets)
        self.neighbours = neighbours
        inner = num_heads * self.head_dim
        self.qkv = nn.Linear(dim, 3 * inner)
        self.attn_drop = attn_drop
        self.proj = nn.Linear(inner, dim_out or dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` is bool (B, N), True for tokens that may be attended to, or float, added to the
        logits of every neighbouring head alike; it broadcasts to (B, nh, N, N), and values of -1e9
        or -inf exclude.
        """
        q, k, v = self.project(x)
        out = self.attend(q, k, v, mask).transpose(1, 2).flatten(2)  # (B, N, nh * hd)
        return self.proj_drop(self.proj(out))

    def attention_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention without dropout, (B, nh, N, m * N) for m head offsets.

        Rows sum to 1; those of queries without any key are 0.
        """
        q, k, _ = self.project(x)
        return self.weigh(q, k, mask)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, divided by sqrt(hd), keys and values, (B, nh, N, hd) each."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q * self.head_dim**-0.5, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention of given q (as it is, not scaled), k and v, (B, nh, N, hd) -> the same."""
        bias, empty = self._bias(q, mask)
        drop = self.attn_drop if self.training else 0.0
        k = self._of_neighbours(k, wrap=self.neighbours != "clamp")
        v = self._of_neighbours(v, wrap=self.neighbours == "wrap")
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=drop, scale=1.0)
        return out if empty is None else out.masked_fill(empty, 0.0)

    def weigh(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
        """The weights that `attend` uses, (B, nh, N, m * N)."""
        bias, empty = self._bias(q, mask)
        k = self._of_neighbours(k, wrap=self.neighbours != "clamp")
        logits = q @ k.transpose(-2, -1)
        weights = (logits if bias is None else logits + bias).softmax(-1)
        return weights if empty is None else weights.masked_fill(empty, 0.0)

    def _of_neighbours(self, x: Tensor, wrap: bool) -> Tensor:
        if self.head_offsets == (0,):
            return x
        last = x.shape[1] - 1
        own = torch.arange(last + 1, device=x.device)
        heads = [own + offset for offset in self.head_offsets]
        heads = [j % (last + 1) if wrap else j.clamp(0, last) for j in heads]
        x = x.index_select(1, torch.stack(heads, dim=1).flatten())  # (B, nh * m, N, hd)
        return x.unflatten(1, (last + 1, -1)).flatten(2, 3)  # (B, nh, m * N, hd)

    def _bias(self, q: Tensor, mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What is added to the logits (.., N, m * N), and which queries (.., N, 1) have no key."""
        allowed = self._window(q)
        if mask is not None:
            allowed = allowed & self._unmasked(mask, q)
        elif self.half_width is None:
            return None, None
        bias = torch.zeros(allowed.shape, dtype=q.dtype, device=q.device)
        if mask is not None and mask.dtype != torch.bool:
            bias = bias + mask.to(q.dtype)
        empty = None if mask is None else ~allowed.any(-1, keepdim=True)
        excluded = ~allowed if empty is None else ~(allowed | empty)  # no row is all -inf
        bias = bias.masked_fill(excluded, float("-inf"))
        if empty is not None:
            bias = bias.masked_fill(empty, 0.0)
        return torch.cat([bias] * len(self.head_offsets), dim=-1), empty

    def _window(self, q: Tensor) -> Tensor:
        place = torch.arange(q.shape[2], device=q.device)
        distance = (place[None, :] - place[:, None]).abs()  # (N, N)
        return distance >= 0 if self.half_width is None else distance <= self.half_width

    def _unmasked(self, mask: Tensor, q: Tensor) -> Tensor:
        if mask.dtype != torch.bool:
            return mask > _EXCLUDED
        if mask.shape != (q.shape[0], q.shape[2]):
            raise InputError(
                f"a bool mask marks tokens, ({q.shape[0]}, {q.shape[2]}); got {tuple(mask.shape)}"
            )
        return mask[:, None, None, :]


def _check_neighbourhood(
    half_width: int | None, head_offsets: Sequence[int], neighbours: str
) -> None:
    if half_width is not None and (not isinstance(half_width, int) or half_width < 0):
        raise ValueError(f"half_width must be a number of tokens or None; got {half_width!r}")
    if not head_offsets or not all(isinstance(offset, int) for offset in head_offsets):
        raise ValueError(f"head_offsets must be whole numbers, at least one; got {head_offsets!r}")
    if neighbours not in NEIGHBOURS:
        raise ValueError(f"neighbours must be one of {', '.join(NEIGHBOURS)}; got {neighbours!r}")
