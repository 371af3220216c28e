"""Random changes to a whole batch at once: mirrored, cropped, moved, partly erased.

All draws come from one generator for the images of all processes, so that a batch looks the same
however many processes share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .recipe import Recipe

# Area of an erased rectangle as a share of the image, as in arXiv:1708.04896.
ERASED = (0.02, 1 / 3)


@dataclass(frozen=True)
class Changes:
    """What happens to each image of a batch; None: nothing of the kind.

    Args:
        motions: affine matrices (B, 2, 3).
        mirrored: bool (B,).
        offsets: shifts down and to the right in pixels, int64 (B, 2).
        boxes: erased rectangles as shares of the sides, (B, 4): top, left, bottom, right.
    """

    motions: Tensor | None = None
    mirrored: Tensor | None = None
    offsets: Tensor | None = None
    boxes: Tensor | None = None

    def take(self, share: slice) -> Changes:
        """The changes of one process's images."""
        own = (self.motions, self.mirrored, self.offsets, self.boxes)
        return Changes(*(None if values is None else values[share] for values in own))

    def apply(self, images: Tensor) -> Tensor:
        """The changed images. Shape: (B, C, H, W) -> (B, C, H, W)."""
        if self.mirrored is not None:
            images = torch.where(self.mirrored[:, None, None, None], images.flip(-1), images)
        if self.offsets is not None:
            images = shift_pixels(images, self.offsets)
        if self.motions is not None:
            images = move(images, self.motions)
        if self.boxes is not None:
            images = images.masked_fill(_inside(self.boxes, *images.shape[-2:]), 0.0)
        return images


def draw_changes(count: int, recipe: Recipe, generator: torch.Generator) -> Changes:
    """What a recipe of the "memory" pipeline does to the next `count` images."""
    motions = mirrored = offsets = boxes = None
    if recipe.rotate_degrees or recipe.shift or recipe.scale:
        motions = draw_motions(count, recipe, generator)
    if recipe.flip:
        mirrored = torch.rand(count, generator=generator) < recipe.flip
    if recipe.crop == "padded":
        reach = recipe.crop_pad
        offsets = torch.randint(-reach, reach + 1, (count, 2), generator=generator)
    if recipe.erase:
        boxes = _draw_boxes(count, recipe.erase, generator)
    return Changes(motions, mirrored, offsets, boxes)


def draw_motions(count: int, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Random rotation, shift and scale. Returns: affine matrices (count, 2, 3)."""

    def uniform(bound: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * bound

    angle = torch.deg2rad(uniform(recipe.rotate_degrees))
    zoom = 1 / (1 + uniform(recipe.scale))
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = (
        torch.stack([cos, -sin, uniform(2 * recipe.shift)], dim=1),
        torch.stack([sin, cos, uniform(2 * recipe.shift)], dim=1),
    )
    return torch.stack(rows, dim=1)


def move(images: Tensor, theta: Tensor) -> Tensor:
    """Bilinear affine motion, edges repeated. (B, C, H, W), (B, 2, 3) -> (B, C, H, W)."""
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def shift_pixels(images: Tensor, offsets: Tensor) -> Tensor:
    """Whole pixels down and to the right, edges repeated: a crop of the padded image.

    Shape: (B, C, H, W), (B, 2) int64 -> (B, C, H, W).
    """
    height, width = images.shape[-2:]
    rows = (torch.arange(height) - offsets[:, :1]).clamp(0, height - 1)  # (B, H)
    columns = (torch.arange(width) - offsets[:, 1:]).clamp(0, width - 1)  # (B, W)
    batch = torch.arange(len(images))[:, None, None]
    pixels = images.permute(0, 2, 3, 1)  # (B, H, W, C)
    return pixels[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _draw_boxes(count: int, probability: float, generator: torch.Generator) -> Tensor:
    chosen, area, aspect, top, left = torch.rand(5, count, generator=generator)
    area = ERASED[0] + area * (ERASED[1] - ERASED[0])
    ratio = torch.exp((aspect * 2 - 1) * torch.log(torch.tensor(2.0)))  # height / width, 1/2 to 2
    height = (area * ratio).sqrt() * (chosen < probability)
    width = (area / ratio).sqrt() * (chosen < probability)
    top, left = top * (1 - height), left * (1 - width)
    return torch.stack([top, left, top + height, left + width], dim=1)


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which pixel centres lie in the box of their image. Returns: bool (B, 1, H, W)."""
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    top, left, bottom, right = boxes.unsqueeze(-1).unbind(1)  # (B, 1) each
    rows = (y >= top) & (y < bottom)  # (B, H)
    columns = (x >= left) & (x < right)  # (B, W)
    return (rows[:, :, None] & columns[:, None, :])[:, None]
