"""A whole loss landscape: estimated first, by several workers, resumed where it was interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

from ..catalog.checked_json import Document
from ..errors import AnalysisError
from ..evaluation.checks import check_count, check_list, check_number
from ..files.local import make_directory, read_regular_file, resource_error
from ..files.processes import worker_pool
from ._features import OnStep, ignore
from ._figure import new_figure, save
from ._loss_plane import (
    IGNORED,
    Batches,
    Directions,
    LandscapePoint,
    check_batches,
    grid_points,
    measure_point,
    random_directions,
)
from ._results import Result

DEFINITION = (
    "NLL (mean over {images} images, {data}) and regularisers at w + x b1 + y b2; b1, b2 random "
    "directions normalised as '{norm}', seed {seed}; one-dimensional tensors and {ignored} are not "
    "moved; eval mode. x and y are the coefficients of the directions. l2 is the sum over tensors "
    "of their 2-norms; the usual L2 term is weight decay times half_squares."
)


@dataclass(frozen=True)
class LandscapeSettings:
    """The plane and the data's name: `count` x `count` points on [-extent, extent]^2.

    Raises: ConfigError for a number that means nothing, or one word where patterns are listed.
    """

    count: int = 21
    extent: float = 1.0
    norm: str = "how-do-vits-work"
    ignored: tuple[str, ...] = IGNORED
    weight_decay: float = 0.05
    seed: int = 0
    workers: int = 1
    data: str = "the batches as given"

    def __post_init__(self) -> None:
        check_count("count", self.count)
        check_count("workers", self.workers, 0)
        check_number("extent", self.extent)
        check_number("weight_decay", self.weight_decay)
        check_list("ignored", self.ignored)


@dataclass(frozen=True)
class LandscapeResult(Result):
    """All points, y outer, x inner."""

    points: tuple[LandscapePoint, ...]
    count: int
    extent: float
    weight_decay: float

    def rows(self) -> list[dict[str, Any]]:
        return [{"model": self.model, **asdict(point)} for point in self.points]

    @property
    def centre(self) -> LandscapePoint:
        """The trained weights."""
        return self.points[len(self.points) // 2]

    def plot(self, path: str | Path) -> None:

        plot_landscape([self], path)


def loss_landscape(
    model: nn.Module,
    loader: Iterable[Any],
    settings: LandscapeSettings | None = None,
    name: str = "model",
    log: str | Path | None = None,
    on_step: OnStep = ignore,
) -> LandscapeResult:
    """Evaluate the plane.

    Args:
        loader: yields (images, targets); read once and kept, so that all points see the same
            images under the same augmentation.
        log: file that every finished point is appended to; a run with the same model, data and
            settings goes on where an interrupted one stopped.
        on_step: called with the number of finished points.
    Raises: AnalysisError; also for a log of another run.
    """
    settings = settings or LandscapeSettings()
    batches = check_batches(loader)
    directions = random_directions(model, settings.seed, settings.norm, settings.ignored)
    places = grid_points(settings.count, settings.extent)
    finished = _open_log(log, _fingerprint(model, batches, settings)) if log is not None else {}
    missing = [place for place in places if place not in finished]
    missing.sort(key=lambda place: place != (0.0, 0.0))  # what is wrong shows at the weights
    on_step(len(finished))
    with _appender(log) as append:
        for point in _points(model, directions, batches, missing, settings.workers):
            finished[point.x, point.y] = point
            append(point)
            on_step(len(finished))
    points = tuple(finished[place] for place in places)
    return LandscapeResult(
        name,
        _definition(settings, sum(len(images) for images, _ in batches)),
        points,
        settings.count,
        settings.extent,
        settings.weight_decay,
    )


def _definition(settings: LandscapeSettings, images: int) -> str:
    return DEFINITION.format(
        images=images,
        data=settings.data,
        norm=settings.norm,
        seed=settings.seed,
        ignored=", ".join(settings.ignored) or "nothing else",
    )


def estimate_seconds(model: nn.Module, loader: Iterable[Any], settings: LandscapeSettings) -> float:
    """Run time of a whole grid, from one evaluation at the trained weights."""
    batches = check_batches(loader)
    directions = random_directions(model, settings.seed, settings.norm, settings.ignored)
    started = time.perf_counter()
    measure_point(model, directions, 0.0, 0.0, batches)
    return (time.perf_counter() - started) * settings.count**2 / max(1, settings.workers)


def _points(
    model: nn.Module,
    directions: Directions,
    batches: Batches,
    places: Sequence[tuple[float, float]],
    workers: int,
) -> Iterator[LandscapePoint]:
    if workers <= 1 or len(places) < 2:
        for x, y in places:
            yield measure_point(model, directions, x, y, batches)
        return
    with worker_pool(workers, _start, (model, directions, batches)) as pool:
        yield from pool.imap_unordered(_work, places)


_work_on: list[Any] = []  # what a worker process was started with


def _start(model: nn.Module, directions: Directions, batches: Batches) -> None:
    torch.set_num_threads(1)
    _work_on[:] = [model, directions, batches]


def _work(place: tuple[float, float]) -> LandscapePoint:
    model, directions, batches = _work_on
    return measure_point(model, directions, *place, batches)


def _fingerprint(model: nn.Module, batches: Batches, settings: LandscapeSettings) -> str:
    digest = hashlib.sha256()
    for value in (*model.state_dict().values(), *(t for batch in batches for t in batch)):
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    kept = {key: value for key, value in asdict(settings).items() if key != "workers"}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    return digest.hexdigest()


class _Head(TypedDict):
    fingerprint: str


_DELETE = "delete it or choose another --out"
_HEAD = Document(_Head, "log of a landscape", "other_grid", _DELETE, AnalysisError)
_POINT = Document(LandscapePoint, "point of a landscape", "landscape", _DELETE, AnalysisError)


def _open_log(log: str | Path, fingerprint: str) -> dict[tuple[float, float], LandscapePoint]:
    """Points of an earlier run; a line that was cut off in the middle is dropped."""
    path = Path(log)
    make_directory(path.parent)
    try:
        lines = read_regular_file(path, "log").splitlines() if path.is_file() else []
        found: dict[tuple[float, float], LandscapePoint] = {}
        if lines:
            _check_head(lines[0], fingerprint, path)
            for line in lines[1:]:
                with contextlib.suppress(AnalysisError):  # cut off in the middle
                    point = _POINT.parse(line, str(path))
                    found[point.x, point.y] = point
        kept = [json.dumps(asdict(point)) for point in found.values()]
        head = json.dumps({"fingerprint": fingerprint})
        path.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")
    except OSError as error:
        raise resource_error(error, path) from None
    return found


def _check_head(line: bytes, fingerprint: str, path: Path) -> None:
    if _HEAD.parse(line, str(path))["fingerprint"] != fingerprint:
        raise AnalysisError(
            f"{path} holds points of another model, data or settings; delete it or choose another "
            "--out",
            code="other_grid",
        )


@contextmanager
def _appender(log: str | Path | None) -> Iterator[Callable[[LandscapePoint], None]]:
    if log is None:
        yield lambda point: None
        return
    with open(log, "a", encoding="utf-8") as handle:

        def append(point: LandscapePoint) -> None:
            handle.write(json.dumps(asdict(point)) + "\n")
            handle.flush()

        yield append


def plot_landscape(results: Sequence[LandscapeResult], path: str | Path) -> None:
    """Per model: the NLL as a surface and as contours, the L2 term, and both together."""
    import numpy as np

    figure = new_figure(11.0, 2.7 * len(results))
    for row, result in enumerate(results):
        side = result.count
        table = {
            key: np.array([getattr(point, key) for point in result.points]).reshape(side, side)
            for key in ("x", "y", "nll", "half_squares")
        }
        x, y, nll = table["x"], table["y"], table["nll"]
        nll = np.where(np.isfinite(nll), nll, np.nanmax(nll[np.isfinite(nll)]))
        l2 = result.weight_decay * table["half_squares"]
        surface = figure.add_subplot(len(results), 4, 4 * row + 1, projection="3d")
        surface.plot_surface(x, y, nll, cmap="viridis", linewidth=0.2, edgecolor="#00000030")
        surface.set_title(f"{result.model}\nNLL", fontsize=8, pad=0)
        surface.set_xlabel("x", labelpad=-8)
        surface.set_ylabel("y", labelpad=-8)
        surface.tick_params(labelsize=6, pad=-3)
        ends = (-result.extent, 0, result.extent)
        surface.set_xticks(ends)
        surface.set_yticks(ends)
        decay = f"{result.weight_decay:g}"
        plots = ((nll, "NLL (nats)"), (l2, f"L2 term, {decay}/2 Σw²"), (nll + l2, "NLL + L2"))
        for column, (values, title) in enumerate(plots, start=2):
            axes = figure.add_subplot(len(results), 4, 4 * row + column)
            _contours(axes, x, y, values, title)
    save(figure, path)


def _contours(axes: Any, x: Any, y: Any, values: Any, title: str) -> None:
    low, high = float(values.min()), float(values.max())
    levels = 12 if high > low else [low - 1, low + 1]
    filled = axes.contourf(x, y, values, levels=levels, cmap="viridis")
    axes.contour(x, y, values, levels=levels, colors="white", linewidths=0.4)
    axes.figure.colorbar(filled, ax=axes, shrink=0.85)
    axes.plot([0], [0], marker="+", color="white", ms=9, mew=1.6)
    axes.set_xlabel("x (coefficient of direction 1)")
    axes.set_ylabel("y (direction 2)")
    axes.set_title(title)
    axes.set_aspect("equal")
