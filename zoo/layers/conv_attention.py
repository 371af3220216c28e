"""Two-dimensional convolutional self-attention: every pixel attends to a k x k window around
itself.

Convolutional self-attention is Yang et al., NAACL 2019, arXiv:1904.03107; this image form is
how-do-vits-work `models/convit.py` (Park & Kim, ICLR 2022, arXiv:2202.06709), whose state-dict keys
and numbers we keep. Keys and values are zero-padded, and padded positions take part in the softmax
with logit 0 and value 0, as upstream. Where we differ: the default padding keeps the grid
(upstream's default fails), the windows are never unfolded, and what cannot work is refused at
construction.

Two exact forms of the same sum. *Bands*: one image row of queries against the zero-padded rows of
its window, with a constant mask that keeps the k columns around each query. *Shifts*: one
multiply-reduce per window offset. Bands need W * k * (W + 2p) logits per row and win on narrow
maps, shifts win on wide ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BAND_WIDTH = 32  # widest map, in pixels, for which bands beat shifts on CPU


class ConvAttention2d(nn.Module):
    """softmax over the k x k window of q . k_shifted, times v_shifted, then a 1x1 convolution.

    Args:
        dim_in, dim_out: channels in and out; `dim_out` defaults to `dim_in`.
        num_heads, head_dim: the inner width is num_heads * head_dim.
        kernel_size: window side k, odd.
        dilation: distance between window positions in pixels.
        padding: zeros around keys and values; None keeps the grid, dilation * (k - 1) / 2.
        kv_stride: kernel and stride of the key/value convolution. Above 1 the padded and windowed
            key map must come out as large as the query map, or as one position that all queries
            share.
        dropout: dropout on the output.
        mask_border: exclude window positions outside the image instead of upstream's logit 0.
    Shape: (B, dim_in, H, W) -> (B, dim_out, H, W).
    Raises: ValueError for an even kernel, or in `forward` for key maps that do not fit the queries.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int | None = None,
        num_heads: int = 8,
        head_dim: int = 64,
        kernel_size: int = 3,
        dilation: int = 1,
        padding: int | None = None,
        kv_stride: int = 1,
        dropout: float = 0.0,
        mask_border: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be an odd positive int; got {kernel_size!r}")
        if dilation < 1 or kv_stride < 1:
            raise ValueError(
                f"dilation and kv_stride must be positive; got dilation={dilation}, "
                f"kv_stride={kv_stride}"
            )
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.scale = head_dim**-0.5
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = dilation * (kernel_size - 1) // 2 if padding is None else padding
        self.mask_border = mask_border
        inner = num_heads * head_dim
        self.to_q = nn.Conv2d(dim_in, inner, 1, bias=False)
        self.to_kv = nn.Conv2d(dim_in, 2 * inner, kv_stride, stride=kv_stride, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(inner, dim_out or dim_in, 1), nn.Dropout(dropout))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` is added to the logits; it broadcasts to (B, nh, H * W, k * k), offsets
        row-major.
        """
        q, k, v = self._project(x)
        bands = mask is None and not self.mask_border and self._keeps_grid(q, k)
        if bands and q.shape[3] <= _BAND_WIDTH:
            out = self._attend_in_bands(q, k, v)
        else:
            weights = self._window_weights(q, k, mask)
            out = sum(
                weights[..., i : i + 1] * window for i, window in enumerate(self._windows(v, q))
            )  # (B, nh, H, W, hd)
        out = out.permute(0, 1, 4, 2, 3).flatten(1, 2)  # (B, nh * hd, H, W)
        return self.to_out(out)

    def attention_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention over the window. Shape: (B, C, H, W) -> (B, nh, H * W, k * k), rows sum to
        1.
        """
        q, k, _ = self._project(x)
        return self._window_weights(q, k, mask).flatten(2, 3)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keys, values = self.to_kv(x).chunk(2, dim=1)
        pad = (0, 0) + (self.padding,) * 4  # channels are last here
        q = self._heads(self.to_q(x))
        return q, F.pad(self._heads(keys), pad), F.pad(self._heads(values), pad)

    def _heads(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (self.num_heads, self.head_dim))
        return x.permute(0, 1, 3, 4, 2)  # (B, nh, H, W, hd)

    def _reach(self) -> int:
        return self.dilation * (self.kernel_size - 1)

    def _keeps_grid(self, q: Tensor, k: Tensor) -> bool:
        reach = self._reach()
        return k.shape[2] - reach == q.shape[2] and k.shape[3] - reach == q.shape[3]

    def _attend_in_bands(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        height, width = q.shape[2:4]
        rows = [
            slice(i * self.dilation, i * self.dilation + height) for i in range(self.kernel_size)
        ]
        k = torch.cat([k[:, :, r] for r in rows], dim=3)  # (B, nh, H, K * (W + 2p), hd)
        v = torch.cat([v[:, :, r] for r in rows], dim=3)
        offset = torch.arange(width + self._reach()) - torch.arange(width)[:, None]  # (W, W + 2p)
        inside = (offset >= 0) & (offset <= self._reach()) & (offset % self.dilation == 0)
        band = inside.repeat(1, self.kernel_size).to(q.device)  # (W, K * (W + 2p))
        bias = torch.zeros(band.shape, dtype=q.dtype, device=q.device)
        bias = bias.masked_fill(~band, float("-inf"))
        q, k, v = (x.flatten(1, 2) for x in (q, k, v))  # every row of every head is a head
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        return out.unflatten(1, (self.num_heads, height))  # (B, nh, H, W, hd)

    def _windows(self, x: Tensor, q: Tensor) -> list[Tensor]:
        """The padded map seen at each window offset, row-major. Shape: each (B, nh, H or 1, W or 1,
        hd).
        """
        height, width = x.shape[2] - self._reach(), x.shape[3] - self._reach()
        if (height, width) != tuple(q.shape[2:4]) and (height, width) != (1, 1):
            raise ValueError(
                f"the windowed key map is {height} x {width} but the query map is "
                f"{q.shape[2]} x {q.shape[3]}; use padding=None and kv_stride=1 to keep the grid"
            )
        steps = range(0, self._reach() + 1, self.dilation) if self._reach() else (0,)
        return [x[:, :, i : i + height, j : j + width] for i in steps for j in steps]

    def _window_weights(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        windows = self._windows(k, q)
        logits = torch.stack([(q * w).sum(-1) for w in windows], dim=-1) * self.scale
        if self.mask_border:
            logits = logits + self._border_bias(q, k)
        if mask is not None:
            shape = (*q.shape[:2], q.shape[2] * q.shape[3], len(windows))
            logits = logits + mask.expand(shape).reshape(logits.shape)
        return logits.softmax(-1)  # (B, nh, H, W, K * K)

    def _border_bias(self, q: Tensor, k: Tensor) -> Tensor:
        height, width = (side - 2 * self.padding for side in k.shape[2:4])  # before padding
        inside = F.pad(q.new_ones(1, 1, height, width, 1), (0, 0) + (self.padding,) * 4)
        inside = torch.cat(self._windows(inside, q), dim=-1)  # (1, 1, H or 1, W or 1, K * K)
        return torch.zeros_like(inside).masked_fill(inside == 0, float("-inf"))
