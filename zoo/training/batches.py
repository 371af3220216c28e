"""Where the batches of a step come from: images in memory, or decoded and augmented one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..catalog.weights_records import InputSpec
from ..data.image_reading import UNREADABLE
from ..data.preprocessing import preprocess
from ..errors import ConfigError, ZooError
from ..evaluation.evaluate import Accuracy
from .augmentation import draw_changes
from .learner import prepare_images
from .machine import seed_torch
from .plan import Array, derive_seed, seeded, take_share
from .recipe import Recipe

MEMORY_LIMIT = 4 << 30  # bytes that the "memory" pipeline may take
HELD_LIMIT = 1 << 30  # bytes of decoded images that the "stream" pipeline keeps
Batches = Iterator[tuple[Tensor, Tensor]]


class Images(Protocol):
    """What training needs of a data set (`zoo.data.dataset.ImageDataset`)."""

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
    found = torch.empty(len(images), spec.in_chans, *spec.size)
    for index in range(len(images)):
        found[index] = torch.from_numpy(preprocess(images[index][0], spec))
    return found


class MemorySource:
    """All images preprocessed in memory; each batch is changed in one go (`draw_changes`).

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
            changes = draw_changes(len(pairs), self.recipe, generator)  # of all processes
            mine = take_share(len(pairs), rank, world)
            chosen = torch.from_numpy(pairs[mine, 0])
            yield changes.take(mine).apply(self.images[chosen]), self.targets[chosen]


class StreamSource:
    """Images decoded and augmented by timm's transforms, in worker processes."""

    def __init__(self, images: Images, spec: InputSpec, recipe: Recipe, workers: int) -> None:
        from torch.utils.data import DataLoader

        held = Held(images, HELD_LIMIT // max(1, workers))
        self.places: list[list[tuple[int, int, int]]] = []  # of the epoch that is read
        self.loader: Any = DataLoader(
            _Caught(_Augmented(held, training_transform(spec, recipe), recipe.seed)),  # type: ignore[arg-type]
            collate_fn=_collated,
            batch_sampler=self.places,  # type: ignore[arg-type]
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(0),  # the loader draws from it, we do not
        )

    def batches(self, epoch: int, steps: Sequence[Array], rank: int, world: int) -> Batches:
        self.places[:] = [
            [(epoch, int(i), int(copy)) for i, copy in pairs[take_share(len(pairs), rank, world)]]
            for pairs in steps
        ]
        yield from _raised(self.loader)


class Held:
    """A data set whose decoded images stay in memory once read, up to a limit in bytes."""

    def __init__(self, images: Images, limit: int) -> None:
        self.images, self.left = images, limit
        self.known: dict[int, tuple[Array, int]] = {}
        self.name, self.labels, self.targets = images.name, images.labels, images.targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Array, int]:
        if index not in self.known:
            found = self.images[index]
            if found[0].nbytes > self.left:
                return found
            self.left -= found[0].nbytes
            self.known[index] = found
        return self.known[index]


class _Caught:
    """A data set whose unreadable images are their errors: raised in a worker process, one would
    come back as the text of a traceback.
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        try:
            return self.rows[place]
        except UNREADABLE as error:
            return error


def _collated(rows: list[Any]) -> Any:
    """A batch, or the first error in it."""
    from torch.utils.data import default_collate

    return next((row for row in rows if isinstance(row, ZooError)), None) or default_collate(rows)


def _raised(batches: Iterable[Any]) -> Batches:
    for batch in batches:
        if isinstance(batch, ZooError):
            raise batch
        yield batch


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
        with seeded(seed), torch.random.fork_rng(devices=[]):  # timm draws from global generators
            seed_torch(seed)
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
            scale=(recipe.crop_scale, 1.0),
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
    first = [Resize(spec.size, fixed.get(recipe.interpolation, 3))]
    if recipe.crop == "padded":
        first.append(RandomCrop(spec.size, padding=recipe.crop_pad))
    return Compose([*first, *transform.transforms[1:]])


BATCH = 128


class Examination:
    """One part of the data, ready to be measured again and again.

    Args:
        images: the part.
        spec: preprocessing.
        recipe: "memory" keeps the preprocessed images, "stream" decodes them every time.
        workers: processes that decode.
    """

    def __init__(self, images: Images, spec: InputSpec, recipe: Recipe, workers: int = 0) -> None:
        self.images, self.spec, self.workers = images, spec, workers
        self.tensor = to_tensor(images, spec) if recipe.pipeline == "memory" else None
        self.targets = torch.from_numpy(images.targets)

    def accuracy(self, model: nn.Module, accelerator: Any) -> Accuracy:
        """Top-1 of `model`, in eval mode on Accelerate's device."""
        correct = torch.zeros((), dtype=torch.int64, device=accelerator.device)
        with torch.inference_mode():
            for x, y in self._batches(accelerator.process_index, accelerator.num_processes):
                x, y = prepare_images(x, accelerator.device), y.to(accelerator.device)
                correct += (model(x).argmax(-1) == y).sum()
        total = accelerator.reduce(correct.clone(), reduction="sum")
        return Accuracy(int(total), len(self.images))

    def _batches(self, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        mine = range(len(self.images))[take_share(len(self.images), rank, world)]
        if self.tensor is not None:
            for start in range(0, len(mine), BATCH):
                chosen = torch.tensor(mine[start : start + BATCH])
                yield self.tensor[chosen], self.targets[chosen]
            return
        from torch.utils.data import DataLoader

        loader: Any = DataLoader(
            _Caught(Preprocessed(self.images, self.spec)),  # type: ignore[arg-type]
            collate_fn=_collated,
            batch_sampler=[list(mine[i : i + BATCH]) for i in range(0, len(mine), BATCH)],
            num_workers=self.workers,
            generator=torch.Generator().manual_seed(0),
        )
        yield from _raised(loader)


class Preprocessed:
    """A data set of (float32 (C, H, W), class number), decoded when asked for."""

    def __init__(self, images: Images, spec: InputSpec) -> None:
        self.images, self.spec = images, spec

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels, target = self.images[index]
        return torch.from_numpy(preprocess(pixels, self.spec)), target
