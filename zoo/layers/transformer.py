"""The pre-norm transformer block shared by the how-do-vits-work families, on tokens or on maps.

Keys follow how-do-vits-work `models/attentions.py` (`shortcut.0/.1`, `norm1`, `attn`,
`ff.net.0/.3`, `norm2`), so that checkpoints load as they are.
"""

from __future__ import annotations

from torch import Tensor, nn

from .residual import DropPath


class _Permute(nn.Module):
    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


class LayerNorm2d(nn.Sequential):
    """LayerNorm over the channels of every pixel. Shape: (B, C, H, W) -> the same. Keys under
    "1".
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__(_Permute(0, 2, 3, 1), nn.LayerNorm(dim, eps=eps), _Permute(0, 3, 1, 2))


def _dense(layout: str, dim_in: int, dim_out: int) -> nn.Module:
    return nn.Linear(dim_in, dim_out) if layout == "tokens" else nn.Conv2d(dim_in, dim_out, 1)


def _norm(layout: str, dim: int) -> nn.Module:
    return nn.LayerNorm(dim) if layout == "tokens" else LayerNorm2d(dim)


class FeedForward(nn.Module):
    """Dense, GELU (erf), dropout, dense, dropout; dense layers are 1x1 convolutions on maps.

    Args:
        dim_in, hidden_dim, dim_out: widths; `dim_out` defaults to `dim_in`.
        layout: "tokens" for (B, N, C), "map" for (B, C, H, W).
    """

    def __init__(
        self,
        dim_in: int,
        hidden_dim: int,
        dim_out: int | None = None,
        dropout: float = 0.0,
        layout: str = "tokens",
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            _dense(layout, dim_in, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            _dense(layout, hidden_dim, dim_out or dim_in),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """y = skip(x) + attn(norm1(x)); out = y + ff(norm2(y)), each branch under stochastic depth.

    skip is the identity, or norm and a dense layer if the width changes (tokens only).

    Args:
        dim_in, dim_out: widths; `dim_out` defaults to `dim_in`.
        attn: the attention, a module from `dim_in` to `dim_out` that returns one tensor.
        dim_mlp: hidden width of the feed-forward part.
        dropout, drop_path: rates.
        layout: "tokens" for (B, N, C), "map" for (B, C, H, W).
    """

    def __init__(
        self,
        dim_in: int,
        attn: nn.Module,
        dim_mlp: int,
        dim_out: int | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        layout: str = "tokens",
    ) -> None:
        super().__init__()
        if layout not in ("tokens", "map"):
            raise ValueError(f"layout must be 'tokens' or 'map'; got {layout!r}")
        dim_out = dim_out or dim_in
        self.shortcut = nn.Sequential()
        if dim_in != dim_out:
            self.shortcut.append(_norm(layout, dim_in))
            self.shortcut.append(nn.Linear(dim_in, dim_out))
        self.norm1 = _norm(layout, dim_in)
        self.attn = attn
        self.drop_path1 = DropPath(drop_path)
        self.norm2 = _norm(layout, dim_out)
        self.ff = FeedForward(dim_out, dim_mlp, dim_out, dropout, layout)
        self.drop_path2 = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shortcut(x) + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.ff(self.norm2(x)))


class Mlp(nn.Module):
    """Linear, GELU (erf), dropout, Linear, dropout.

    Args:
        in_features: token width C.
        hidden_features, out_features: default to `in_features`.
        drop: dropout after each layer.
    Shape: (..., in_features) -> (..., out_features).
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        hidden_features = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_features, out_features or in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
