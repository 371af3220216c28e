"""Patches to tokens by a strided convolution."""

from torch import Tensor, nn

from .position import pad_to_multiple, patch_grid, to_pair


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
