"""Where the batches of a step come from: images in memory, or decoded and augmented one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..preprocessing import preprocess
from ..records import InputSpec
from .plan import Array, derive_seed, seeded, take_share
from .recipes import Recipe

MEMORY_LIMIT = 4 << 30  # bytes that the "memory" pipeline may take
Batches = Iterator[tuple[Tensor, Tensor]]


class Images(Protocol):
    """What training needs of a data set (`zoo.datasets.ImageDataset`)."""

    name: str
    labels: tuple[str, ...]
    targets: Array

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Array, int]: ...


class Source(Protocol):
    """A stream of a process's batches of an epoch."""

    def batches(self, epoch: int, steps: Sequence[Array], rank: int, world: int) -> Batches:
        """For each step, images (B, C, H, W) and class numbers (B,)."""
        ...


def open_source(images: Images, spec: InputSpec, recipe: Recipe, workers: int) -> Source:
    """The training images behind the recipe's pipeline. Raises: ConfigError."""
    if recipe.pipeline == "memory":
        return MemorySource(images, spec, recipe)
    return StreamSource(images, spec, recipe, workers)


def to_tensor(images: Sequence[tuple[Array, int]] | Images, spec: InputSpec) -> Tensor:
    """All images preprocessed. Returns: float32 (n, C, H, W)."""
    return torch.from_numpy(np.stack([preprocess(images[i][0], spec) for i in range(len(images))]))


class MemorySource:
    """All images preprocessed in memory; each batch is moved a little, in one go.

    Raises: ConfigError if they take more than 4 GiB.
    """

    def __init__(self, images: Images, spec: InputSpec, recipe: Recipe) -> None:
        size = 4 * len(images) * spec.in_chans * spec.size[0] * spec.size[1]
        if size > MEMORY_LIMIT:
            raise ConfigError(
                f"{len(images)} images of {spec.size[0]} x {spec.size[1]} pixels take "
                f"{size / 2**30:.1f} GiB in memory; use a recipe that streams, e.g. "
                "--recipe photos"
            )
        self.images = to_tensor(images, spec)
        self.targets = torch.from_numpy(images.targets)
        self.recipe = recipe

    def batches(self, epoch: int, steps: Sequence[Array], rank: int, world: int) -> Batches:
        for step, pairs in enumerate(steps):
            generator = torch.Generator().manual_seed(derive_seed(self.recipe.seed, 1, epoch, step))
            theta = draw_motions(len(pairs), self.recipe, generator)  # of all processes
            mine = take_share(len(pairs), rank, world)
            chosen = torch.from_numpy(pairs[mine, 0])
            yield move(self.images[chosen], theta[mine]), self.targets[chosen]


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


class StreamSource:
    """Images decoded and augmented by timm's transforms, in worker processes."""

    def __init__(self, images: Images, spec: InputSpec, recipe: Recipe, workers: int) -> None:
        self.dataset = _Augmented(images, training_transform(spec, recipe), recipe.seed)
        self.workers = workers

    def batches(self, epoch: int, steps: Sequence[Array], rank: int, world: int) -> Batches:
        from torch.utils.data import DataLoader

        places = [
            [(epoch, int(i), int(copy)) for i, copy in pairs[take_share(len(pairs), rank, world)]]
            for pairs in steps
        ]
        yield from DataLoader(
            self.dataset,  # type: ignore[arg-type]
            batch_sampler=places,  # type: ignore[arg-type]
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(0),  # the loader draws from it, we do not
        )


class _Augmented:
    """A data set indexed by (epoch, image, copy): the same place gives the same pixels."""

    def __init__(self, images: Images, transform: Any, seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: tuple[int, int, int]) -> tuple[Tensor, int]:
        from PIL import Image

        epoch, index, copy = place
        pixels, target = self.images[index]
        seed = derive_seed(self.seed, 2, epoch, index, copy)
        with seeded(seed), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.transform(Image.fromarray(pixels)), target


def training_transform(spec: InputSpec, recipe: Recipe) -> Any:
    """timm's training transform for a recipe: PIL image -> float tensor (C, H, W).

    Raises: ConfigError for inputs that are not RGB, or a RandAugment that timm cannot read.
    """
    from timm.data import create_transform
    from torchvision.transforms import Compose, RandomCrop, Resize

    if spec.in_chans != 3:
        raise ConfigError(f"this recipe augments RGB images; got in_chans={spec.in_chans}")
    fixed = {"bicubic": 3, "bilinear": 2}
    try:
        transform = create_transform(
            spec.size,
            is_training=True,
            hflip=recipe.flip,
            color_jitter=recipe.color_jitter,
            auto_augment=recipe.rand_augment or None,
            interpolation=recipe.interpolation,
            mean=spec.mean,
            std=spec.std,
            re_prob=recipe.erase,
            re_mode=recipe.erase_mode,
        )
    except (AssertionError, ValueError, KeyError) as error:
        raise ConfigError(
            f"timm cannot read the augmentation {recipe.rand_augment!r}: {error}"
        ) from None
    if recipe.crop == "resized":
        return transform
    resize = Resize(spec.size, fixed.get(recipe.interpolation, 3))
    return Compose([resize, RandomCrop(spec.size, padding=4), *transform.transforms[1:]])
