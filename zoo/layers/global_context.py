"""One global context for all tokens, the mixers built on it, and FCViT's two optional gates.

Ma, Wang, Qin, Li, Zhao, Fu, Fu 2022, *A Close Look at Spatial Modeling: From Attention to
Convolution*, arXiv:2212.12552; state-dict keys and numbers follow ma-xu/FCViT `models/fcvit.py`.
Attention maps hardly depend on the query, so a single context vector replaces them; each token
takes as much of it as it resembles the average token. Where we differ on purpose: every setting is
an argument whose default is the published value, impossible widths are refused at construction, and
a map of one pixel with one head has similarity 0 (upstream: NaN).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError

_EPS = 1e-5  # added to the deviation, not to the variance


class GlobalContext(nn.Module):
    """The context of the average token, given to every position by its similarity to that token.

    gap = mean of x over positions. s[g, n] = <x[g, :, n], gap[g]> / sqrt(C / G) for G groups of
    channels, standardised per sample over groups and positions together (unbiased deviation, plus
    1e-5), then rescaled by a weight and a bias per group. e = fc2(larger half of fc1(gap)).
    out[g, :, n] = s[g, n] * e[g].

    Args:
        dim: channels C.
        num_heads: groups G of channels; divides `dim`. Unused if not `weighted`.
        reduction: the hidden width of the context is dim // reduction.
        compete: keep the larger of two halves; otherwise GELU between the two linear layers.
        weighted: scale by the similarity; otherwise the context alone is returned.
    Shape: (B, C, H, W) -> (B, C, H, W), or (B, C, 1, 1) if not `weighted`.
    Raises: ValueError for widths that do not divide.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        reduction: int = 8,
        compete: bool = True,
        weighted: bool = True,
    ) -> None:
        super().__init__()
        hidden = dim // reduction
        if hidden < 1 or (compete and 2 * dim // reduction != 2 * hidden):
            raise ValueError(
                "dim // reduction must be at least 1, and with compete 2 * dim // reduction even; "
                f"got dim={dim}, reduction={reduction}"
            )
        if weighted and (num_heads < 1 or dim % num_heads):
            raise ValueError(
                f"dim must be divisible by num_heads; got dim={dim}, num_heads={num_heads}"
            )
        self.num_heads = num_heads
        self.compete = compete
        self.weighted = weighted
        if weighted:
            self.rescale_weight = nn.Parameter(torch.ones(num_heads))
            self.rescale_bias = nn.Parameter(torch.zeros(num_heads))
        if compete:
            self.fc1 = nn.Linear(dim, 2 * hidden)
            self.fc2 = nn.Linear(hidden, dim)
        else:
            self.fc = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        gap = x.mean((2, 3))  # (B, C)
        context = self._context(gap)[:, :, None, None]  # (B, C, 1, 1)
        if not self.weighted:
            return context
        weight, bias = self.rescale_weight[:, None, None], self.rescale_bias[:, None, None]
        scores = self._standardise(self._similarity(x, gap)) * weight + bias  # (B, G, H, W)
        out = self._groups(context) * scores.unsqueeze(2)  # (B, G, C / G, H, W)
        return out.flatten(1, 2)

    def similarity(self, x: Tensor) -> Tensor:
        """The standardised similarity s before its rescaling. Shape: (B, C, H, W) -> (B, G, H, W).

        Raises: ConfigError for an unweighted context, which has none.
        """
        if not self.weighted:
            raise ConfigError("an unweighted global context has no similarity; use weighted=True")
        return self._standardise(self._similarity(x, x.mean((2, 3))))

    def _context(self, gap: Tensor) -> Tensor:
        if not self.compete:
            return self.fc(gap)
        first, second = self.fc1(gap).chunk(2, dim=1)  # (B, C / reduction) each
        return self.fc2(torch.maximum(first, second))

    def _groups(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.num_heads, x.shape[1] // self.num_heads))

    def _similarity(self, x: Tensor, gap: Tensor) -> Tensor:
        queries = self._groups(gap).unsqueeze(2)  # (B, G, 1, C / G)
        scores = queries @ self._groups(x).flatten(3)  # (B, G, 1, H * W)
        scale = queries.shape[3] ** -0.5
        return (scores * scale).reshape(-1, self.num_heads, *x.shape[2:])

    @staticmethod
    def _standardise(scores: Tensor) -> Tensor:
        axes = (1, 2, 3)
        centred = scores - scores.mean(axes, keepdim=True)
        freedom = scores.shape[1] * scores.shape[2] * scores.shape[3] - 1
        if freedom == 0:
            return centred  # a single number: 0
        deviation = torch.linalg.vector_norm(centred, dim=axes, keepdim=True) * freedom**-0.5
        return centred / (deviation + _EPS)


class SpatialAttention(nn.Module):
    """x * sigmoid(1x1(GELU(1x1(depth-wise(x))))); off in the published FCViT models.

    Args:
        dim: channels C. kernel_size: of the depth-wise convolution, odd.
        reduction: the hidden width is dim // reduction.
    Shape: (B, C, H, W) -> the same.
    """

    def __init__(self, dim: int, kernel_size: int = 3, reduction: int = 8) -> None:
        super().__init__()
        hidden = dim // reduction
        self.spatial_att = nn.Sequential(
            depthwise_conv(dim, kernel_size),
            nn.Conv2d(dim, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, dim, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.spatial_att(x)


class ChannelAttention(nn.Module):
    """x + conv(GELU(conv(mean of GELU(x)))), convolutions along the channel axis.

    Off in the published models. The signal is added, as upstream, where one would expect a product.

    Args:
        kernel_sizes: of the two convolutions, odd.
    Shape: (B, C, H, W) -> the same, any C.
    Raises: ValueError for an even kernel, which would change the number of channels.
    """

    def __init__(self, kernel_sizes: tuple[int, int] = (3, 5)) -> None:
        super().__init__()
        if any(size % 2 == 0 for size in kernel_sizes):
            raise ValueError(f"kernel_sizes must be odd; got {tuple(kernel_sizes)}")
        first, second = kernel_sizes
        self.channelConv1 = nn.Conv1d(1, 1, first, padding=first // 2)
        self.channelConv2 = nn.Conv1d(1, 1, second, padding=second // 2)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(x).mean((2, 3)).unsqueeze(1)  # (B, 1, C)
        y = self.channelConv2(self.act(self.channelConv1(y)))
        return x + y.transpose(1, 2).unsqueeze(3)  # (B, C, 1, 1) is added


def depthwise_conv(channels: int, kernel_size: int, bias: bool = True) -> nn.Conv2d:
    """One filter per channel; keeps the grid. Raises: ValueError for an even kernel."""
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd to keep the grid; got {kernel_size}")
    padding = kernel_size // 2
    return nn.Conv2d(channels, channels, kernel_size, padding=padding, groups=channels, bias=bias)


class TokenMixer(nn.Module):
    """Twice: add the global context, mix by a depth-wise convolution, 1x1 bottleneck, GELU.

    y = GELU(fc1(dw1(x + gc1(x)))); out = GELU(fc2(dw2(y + gc2(y)))).

    Args:
        dim: channels C.
        mix_sizes: kernels of the two depth-wise convolutions, odd.
        fc_factor, fc_min_value: hidden width of fc1 and fc2, max(dim // fc_factor, fc_min_value); a
            single 1x1 convolution if fc_factor <= 1.
        use_gc: add global contexts. use_second_mix: the second half.
        gc_heads, gc_reduction, compete, weighted_gc: of the contexts (`GlobalContext`).
        use_spatial_att, spatial_att_size, spatial_att_reduction: `SpatialAttention` at the end.
    Shape: (B, C, H, W) -> the same.
    """

    def __init__(
        self,
        dim: int,
        mix_sizes: tuple[int, int] = (11, 11),
        fc_factor: int = 8,
        fc_min_value: int = 16,
        use_gc: bool = True,
        use_second_mix: bool = True,
        gc_heads: int = 8,
        gc_reduction: int = 8,
        compete: bool = True,
        weighted_gc: bool = True,
        use_spatial_att: bool = False,
        spatial_att_size: int = 3,
        spatial_att_reduction: int = 8,
    ) -> None:
        super().__init__()
        self.act = nn.GELU()
        gc = (gc_heads, gc_reduction, compete, weighted_gc)
        self.gc1 = GlobalContext(dim, *gc) if use_gc else None
        self.dw1 = depthwise_conv(dim, mix_sizes[0])
        self.fc1 = _pointwise(dim, fc_factor, fc_min_value)
        if use_second_mix:
            self.gc2 = GlobalContext(dim, *gc) if use_gc else None
            self.dw2 = depthwise_conv(dim, mix_sizes[1])
            self.fc2 = _pointwise(dim, fc_factor, fc_min_value)
        self.use_second_mix = use_second_mix
        self.spatial_att = (
            SpatialAttention(dim, spatial_att_size, spatial_att_reduction)
            if use_spatial_att
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self._first_half(x)
        if self.use_second_mix:
            x = x if self.gc2 is None else x + self.gc2(x)
            x = self.act(self.fc2(self.dw2(x)))
        return self.spatial_att(x)

    def similarity_maps(self, x: Tensor) -> list[Tensor]:
        """The similarity of each context. Shape: (B, C, H, W) -> each (B, gc_heads, H, W)."""
        if self.gc1 is None:
            raise ConfigError("a token mixer without global contexts has no similarity maps")
        maps = [self.gc1.similarity(x)]
        return [*maps, self.gc2.similarity(self._first_half(x))] if self.use_second_mix else maps

    def _first_half(self, x: Tensor) -> Tensor:
        x = x if self.gc1 is None else x + self.gc1(x)
        return self.act(self.fc1(self.dw1(x)))


def _pointwise(dim: int, factor: int, min_value: int) -> nn.Module:
    if factor <= 1:
        return nn.Conv2d(dim, dim, 1)
    hidden = max(dim // factor, min_value)
    return nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.GELU(), nn.Conv2d(hidden, dim, 1))


class ChannelMixer(nn.Module):
    """1x1, depth-wise convolution, GELU, dropout, 1x1, dropout; no activation after the first 1x1.

    Args:
        dim, hidden_dim: channels outside and inside; `hidden_dim` defaults to `dim`.
        drop: dropout rate.
        dw_size: kernel of the depth-wise convolution, odd; 0 leaves it out.
        use_channel_att, channel_att_sizes: `ChannelAttention` at the end.
    Shape: (B, C, H, W) -> the same.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int | None = None,
        drop: float = 0.0,
        dw_size: int = 3,
        use_channel_att: bool = False,
        channel_att_sizes: tuple[int, int] = (3, 5),
    ) -> None:
        super().__init__()
        hidden_dim = hidden_dim or dim
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.dwconv = depthwise_conv(hidden_dim, dw_size) if dw_size else nn.Identity()
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)
        self.drop = nn.Dropout(drop)
        self.channel_att = ChannelAttention(channel_att_sizes) if use_channel_att else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.act(self.dwconv(self.fc1(x))))
        return self.channel_att(self.drop(self.fc2(x)))
