"""From images to tokens: linear patch embeddings, class token, learned positions.

Dosovitskiy et al., *An Image is Worth 16x16 Words*, arXiv:2010.11929; keys and channel orders
follow how-do-vits-work `models/embeddings.py`. Where we differ on purpose: any image size runs,
with the positions resampled bicubically.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .exporting import is_symbolic, prepend_token
from .linear_maps import is_plain
from .positions import pad_to_multiple, patch_grid, resample_position_embedding, to_pair


class Patches(nn.Module):
    """Cut an image into patches, flattened as (row, column, channel).

    Shape: (B, C, H, W) -> (B, N, ph * pw * C), H and W whole patches; N row-major.
    """

    def __init__(self, patch_size: tuple[int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor:
        ph, pw = self.patch_size
        return rearrange(x, "b c (gh ph) (gw pw) -> b (gh gw) (ph pw c)", ph=ph, pw=pw)


class PatchEmbedding(nn.Module):
    """A linear layer on every patch of an image, zero-padded at the bottom and right to whole ones.

    Args: patch_size: int or (height, width); dim_out: token width; in_chans: channels.
    Shape: (B, in_chans, H, W) -> (B, N, dim_out), N = ceil(H/P) * ceil(W/P).
    """

    def __init__(self, patch_size: int | tuple[int, int], dim_out: int, in_chans: int = 3) -> None:
        super().__init__()
        self.patch_size = to_pair(patch_size)
        features = self.patch_size[0] * self.patch_size[1] * in_chans
        self.patch_embedding = nn.Sequential(Patches(self.patch_size), nn.Linear(features, dim_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.patch_embedding(pad_to_multiple(x, self.patch_size))

    def kernel_of(self, weight: Tensor) -> Tensor:
        """The linear weight as that of a convolution: (D, Ph * Pw * C) -> (D, C, Ph, Pw)."""
        ph, pw = self.patch_size
        return rearrange(weight, "d (ph pw c) -> d c ph pw", ph=ph, pw=pw)

    def weight_of(self, kernel: Tensor) -> Tensor:
        """The reverse of `kernel_of`."""
        return rearrange(kernel, "d c ph pw -> d (ph pw c)")

    def grid_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (Gh, Gw) of an image of this (height, width)."""
        return patch_grid(size, self.patch_size)


class ConvEmbedding(nn.Module):
    """A linear layer on overlapping patches, flattened as (channel, row, column): a convolution.

    As in a convolution, rows and columns at the bottom and right that fill no patch are left out.
    Images smaller than one patch are zero-padded to it.

    Args: patch_size, stride: ints, stride None means the patch; dim_out: token width; in_chans:
        channels.
    Shape: (B, in_chans, H, W) -> (B, N, dim_out), N = ((H-P)//s + 1) * ((W-P)//s + 1).
    """

    def __init__(
        self, patch_size: int, dim_out: int, in_chans: int = 3, stride: int | None = None
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.stride = stride or patch_size
        self.in_chans = in_chans
        linear = nn.Linear(in_chans * patch_size**2, dim_out)
        # positions 0 and 1 are upstream's unfolding and transposition
        self.patch_embedding = nn.Sequential(nn.Identity(), nn.Identity(), linear)

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = (max(self.patch_size - side, 0) for side in x.shape[2:])
        x = F.pad(x, (0, right, 0, bottom)) if is_symbolic(bottom, right) or bottom or right else x
        linear = self.patch_embedding[2]
        if not is_plain(linear):
            return linear(F.unfold(x, self.patch_size, stride=self.stride).transpose(1, 2))
        kernel = linear.weight.reshape(-1, self.in_chans, self.patch_size, self.patch_size)
        x = F.conv2d(x, kernel, linear.bias, stride=self.stride)  # (B, dim_out, Gh, Gw)
        return x.flatten(2).transpose(1, 2)

    def kernel_of(self, weight: Tensor) -> Tensor:
        """The linear weight as that of a convolution: (D, C * P * P) -> (D, C, P, P)."""
        return weight.reshape(len(weight), -1, self.patch_size, self.patch_size)

    def weight_of(self, kernel: Tensor) -> Tensor:
        """The reverse of `kernel_of`."""
        return kernel.flatten(1)

    def grid_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (Gh, Gw) of an image of this (height, width)."""
        height, width = (max(side - self.patch_size, 0) // self.stride + 1 for side in size)
        return height, width


class ClassToken(nn.Module):
    """Prepend a learned token. Shape: (B, N, C) -> (B, N + 1, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(nn.init.normal_(torch.empty(1, 1, dim), std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        return prepend_token(self.cls_token, x)


class TakeClassToken(nn.Module):
    """The first token. Shape: (B, N, C) -> (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


class PositionEmbedding(nn.Module):
    """Add a learned vector per patch, and one for a class token in front.

    Args: grid: (Gh, Gw) of the trained positions; dim: token width; class_token: one position more.
    Shape: (B, N, C), grid (Gh, Gw) -> the same; another grid resamples the patches' positions.
    """

    def __init__(self, grid: tuple[int, int], dim: int, class_token: bool = True) -> None:
        super().__init__()
        self.grid = grid
        self.extra = int(class_token)
        tokens = grid[0] * grid[1] + self.extra
        self.pos_embedding = nn.Parameter(nn.init.normal_(torch.empty(1, tokens, dim), std=0.02))

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        if grid is None or (not is_symbolic(*grid) and grid == self.grid):
            return x + self.pos_embedding
        patches = self.pos_embedding[:, self.extra :]
        patches = resample_position_embedding(patches, self.grid, grid)
        return x + torch.cat((self.pos_embedding[:, : self.extra], patches), dim=1)


class TokenEmbedding(nn.Sequential):
    """Patches, class token, positions, dropout.

    Args: patches: a `PatchEmbedding` or `ConvEmbedding`; dim: token width; img_size: (height,
        width) that the positions are made for; dropout: rate.
    Shape: (B, in_chans, H, W) -> (B, 1 + N, dim).
    """

    def __init__(
        self, patches: nn.Module, dim: int, img_size: tuple[int, int], dropout: float = 0.0
    ) -> None:
        positions = PositionEmbedding(patches.grid_of(img_size), dim)
        super().__init__(patches, ClassToken(dim), positions, nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        patches, class_token, positions, dropout = self
        grid = patches.grid_of((x.shape[2], x.shape[3]))
        return dropout(positions(class_token(patches(x)), grid))


class PatchEmbed(nn.Module):
    """One convolution whose kernel and stride are the patch; no norm.

    Images that are not whole patches are zero-padded at the bottom and the right.

    Args:
        img_size: (height, width) or one number, in pixels; fixes `grid` only, any size may be
            passed.
        patch_size: (height, width) or one number.
        in_chans, embed_dim: channels in, token width out.
    Shape: (B, in_chans, H, W) -> (B, N, embed_dim), N = ceil(H/P) * ceil(W/P), row-major.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
    ) -> None:
        super().__init__()
        self.img_size = to_pair(img_size)
        self.patch_size = to_pair(patch_size)
        self.grid = patch_grid(self.img_size, self.patch_size)
        self.proj = nn.Conv2d(in_chans, embed_dim, self.patch_size, stride=self.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(pad_to_multiple(x, self.patch_size))  # (B, C, Gh, Gw)
        return x.flatten(2).transpose(1, 2)  # (B, N, C)

    def grid_of(self, x: Tensor) -> tuple[int, int]:
        """Patch grid (Gh, Gw) of an image batch (B, C, H, W)."""
        return patch_grid((x.shape[-2], x.shape[-1]), self.patch_size)
