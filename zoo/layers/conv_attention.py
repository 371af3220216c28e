"""Two-dimensional convolutional self-attention: every pixel attends to a k x k window around
itself.

Convolutional self-attention is Yang et al., NAACL 2019, arXiv:1904.03107; this image form is
how-do-vits-work `models/convit.py` (Park & Kim, ICLR 2022, arXiv:2202.06709), whose state-dict keys
and numbers we keep. Keys and values are zero-padded, and padded positions take part in the softmax
with logit 0 and value 0, as upstream. Where we differ: the default padding keeps the grid
(upstream's default fails), the windows are never unfolded, and what cannot work is refused at
construction.

Three exact forms of the same sum:

* *Dense*: plain attention over all N positions under a mask of the window, and one null key. The m
  positions of a window that lie outside the image have logit 0 and value 0; together they weigh
  m * exp(0), as one key of logit log(m) and value 0. N * (N + 1) logits, one fused operation: the
  fastest form for large windows on small maps, and in training.
* *Bands*: one image row of queries against the zero-padded rows of its window, with a constant mask
  that keeps the k columns around each query. W * k * (W + 2p) logits per row: narrow maps.
* *Shifts*: one multiply-reduce per window offset. k * k logits per position: wide maps, and what
  the others do not cover (masks, strided keys, other paddings).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .exporting import is_exporting, is_symbolic
from .mask_cache import kept_on_cpu

FORMS = ("dense", "bands", "shifts")
_BAND_WIDTH = 32  # widest map, in pixels, for which bands beat shifts on CPU
_DENSE_TOKENS = 400  # most positions, and
_DENSE_KERNEL = 5  # smallest window, for which dense attention beats bands on CPU


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
        form: "dense", "bands" or "shifts" to force a form wherever it applies; None chooses by the
            sizes of map and window.
    Shape: (B, dim_in, H, W) -> (B, dim_out, H, W).
    Raises: ValueError for an even kernel or an unknown form, or in `forward` for key maps that do
        not fit the queries.
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
        form: str | None = None,
    ) -> None:
        super().__init__()
        if form is not None and form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, or None; got {form!r}")
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
        self.form = form
        inner = num_heads * head_dim
        self.to_q = nn.Conv2d(dim_in, inner, 1, bias=False)
        self.to_kv = nn.Conv2d(dim_in, 2 * inner, kv_stride, stride=kv_stride, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(inner, dim_out or dim_in, 1), nn.Dropout(dropout))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` is added to the logits; it broadcasts to (B, nh, H * W, k * k), offsets
        row-major.
        """
        q, k, v = self._project(x)
        form = self._choose(q, k, mask)
        if form == "dense":
            out = self._attend_densely(q, k, v)
        elif form == "bands":
            out = self._attend_in_bands(q, k, v)
        else:
            out = self._attend_by_shifts(q, k, v, mask)
        return self.to_out(out)  # (B, nh * hd, H, W) before

    def attention_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention over the window. Shape: (B, C, H, W) -> (B, nh, H * W, k * k), rows sum to
        1.
        """
        q, k, _ = self._project(x)
        return self._window_weights(q, self._padded(k), mask).flatten(3).transpose(2, 3)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = self.to_q(x)
        keys, values = self.to_kv(x).chunk(2, dim=1)
        return self._heads(q), self._heads(keys), self._heads(values)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.num_heads, self.head_dim))  # (B, nh, hd, H, W)

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.padding,) * 4)

    def _reach(self) -> int:
        return self.dilation * (self.kernel_size - 1)

    def _choose(self, q: Tensor, k: Tensor, mask: Tensor | None) -> str:
        """The form wanted, or the fastest, among those that give the right sum here."""
        keeps_grid = self.padding * 2 == self._reach() and k.shape[3:] == q.shape[3:]
        if mask is not None or not keeps_grid:
            return "shifts"
        if self.form is not None and not (self.form == "bands" and self.mask_border):
            return self.form
        height, width = q.shape[3:]
        if is_symbolic(height, width):
            return "shifts" if self.mask_border else "bands"  # one graph for every size
        if self.kernel_size >= _DENSE_KERNEL and height * width <= _DENSE_TOKENS:
            return "dense"
        bands = not self.mask_border and (width <= _BAND_WIDTH or is_exporting())
        return "bands" if bands else "shifts"

    def _attend_densely(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        height, width = q.shape[3:]
        window = (self.kernel_size, self.dilation, self.mask_border)
        bias = _dense_bias(height, width, *window, q.dtype, q.device)
        # fused kernels want the channels of a head side by side: (B, nh, N, hd)
        q, k, v = (x.flatten(3).transpose(2, 3) for x in (q, k, v))
        if self.mask_border:
            k, v = k.contiguous(), v.contiguous()
        else:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))  # the null key, and a copy
        q = q.contiguous()
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        return out.transpose(2, 3).reshape(-1, self.num_heads * self.head_dim, height, width)

    def _attend_in_bands(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        height, width = q.shape[3:]
        q, k, v = (x.permute(0, 1, 3, 4, 2) for x in (q, k, v))  # (B, nh, H, W, hd)
        pad = (0, 0) + (self.padding,) * 4
        q, k, v = q.contiguous(), F.pad(k, pad), F.pad(v, pad)  # all in this order in memory
        starts = range(0, self._reach() + 1, self.dilation) if self._reach() else (0,)
        rows = [slice(start, start + height) for start in starts]
        k = torch.cat([k[:, :, r] for r in rows], dim=3)  # (B, nh, H, K * (W + 2p), hd)
        v = torch.cat([v[:, :, r] for r in rows], dim=3)
        bias = _band_bias(width, self.kernel_size, self.dilation, q.dtype, q.device)
        q, k, v = (x.flatten(1, 2) for x in (q, k, v))  # every row of every head is a head
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        out = out.unflatten(1, (self.num_heads, height))  # (B, nh, H, W, hd)
        return out.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def _attend_by_shifts(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        weights = self._window_weights(q, self._padded(k), mask).unsqueeze(2)
        first, *others = self._windows(self._padded(v), q)
        out = weights[:, :, :, 0] * first  # (B, nh, hd, H, W)
        for i, window in enumerate(others, start=1):
            out = torch.addcmul(out, weights[:, :, :, i], window)
        return out.flatten(1, 2)

    def _windows(self, x: Tensor, q: Tensor) -> list[Tensor]:
        """The padded map seen at each window offset, row-major. Shape: each (B, nh, hd, H or 1,
        W or 1).
        """
        height, width = x.shape[3] - self._reach(), x.shape[4] - self._reach()
        if (height, width) != tuple(q.shape[3:]) and (height, width) != (1, 1):
            raise InputError(
                f"the windowed key map is {height} x {width} but the query map is "
                f"{q.shape[3]} x {q.shape[4]}; use padding=None and kv_stride=1 to keep the grid"
            )
        steps = range(0, self._reach() + 1, self.dilation) if self._reach() else (0,)
        return [x[..., i : i + height, j : j + width] for i in steps for j in steps]

    def _window_weights(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax over the window: (B, nh, k * k, H, W), of the padded keys."""
        windows = self._windows(k, q)
        q = q * self.scale
        logits = torch.stack([(q * w).sum(2) for w in windows], dim=2)
        if self.mask_border:
            logits = logits + self._border_bias(q, k)
        if mask is not None:
            shape = (*q.shape[:2], q.shape[3] * q.shape[4], len(windows))
            logits = logits + mask.expand(shape).transpose(2, 3).reshape(logits.shape)
        return logits.softmax(2)

    def _border_bias(self, q: Tensor, k: Tensor) -> Tensor:
        height, width = (side - 2 * self.padding for side in k.shape[3:])  # before padding
        inside = self._padded(q.new_ones(1, 1, 1, height, width))
        inside = torch.cat(self._windows(inside, q), dim=2)  # (1, 1, K * K, H or 1, W or 1)
        return torch.zeros_like(inside).masked_fill(inside == 0, float("-inf"))


def _near(size: int, kernel_size: int, dilation: int, device: torch.device) -> Tensor:
    """Which keys of an axis are in the window of which queries. Shape: (size, size), bool."""
    index = torch.arange(size, device=device)
    offset = index - index[:, None]
    inside = offset.abs() * 2 <= dilation * (kernel_size - 1)
    return inside & (offset % dilation == 0) if dilation > 1 else inside


@kept_on_cpu
def _dense_bias(
    height: int,
    width: int,
    kernel_size: int,
    dilation: int,
    mask_border: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """The mask of the windows, (N, N), and unless the border is masked the null key, (N, N + 1)."""
    near = tuple(_near(size, kernel_size, dilation, device) for size in (height, width))
    rows, columns = (
        torch.zeros(axis.shape, dtype=dtype, device=device).masked_fill(~axis, float("-inf"))
        for axis in near
    )
    bias = rows[:, None, :, None] + columns[None, :, None, :]  # (H, W, H', W')
    bias = bias.reshape(height * width, -1)
    if mask_border:
        return bias
    inside = near[0].sum(1)[:, None] * near[1].sum(1)  # (H, W)
    null = (kernel_size**2 - inside).to(dtype).log()  # of none: -inf
    return torch.cat((bias, null.reshape(-1, 1)), dim=1)


@kept_on_cpu
def _band_bias(
    width: int, kernel_size: int, dilation: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The mask of the columns, the same for all rows: (W, k * (W + 2p))."""
    reach = dilation * (kernel_size - 1)
    keys = torch.arange(width + reach, device=device)
    offset = keys - torch.arange(width, device=device)[:, None]  # (W, W + 2p)
    inside = (offset >= 0) & (offset <= reach) & (offset % dilation == 0)
    band = inside.repeat(1, kernel_size)
    bias = torch.zeros((), dtype=dtype, device=device)
    return bias.masked_fill(~band, float("-inf"))
