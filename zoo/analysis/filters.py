"""What makes a layer a low- or a high-pass filter: the gain of high frequencies, layer by layer.

Park & Kim, arXiv:2202.06709, call attention low-pass and convolutions high-pass; their author adds
that group size and architecture matter more than the kernel. One number for any layer that keeps
the size of its map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AnalysisError
from ..layers.attention import Attention2d
from ..layers.conv_attention import ConvAttention2d
from ..layers.windows import LocalAttention
from ._features import OnStep, ignore
from ._figure import INK, KIND_COLOURS, KIND_MARKERS, kind_legend, new_figure, save, tidy
from ._hooks import calls_to, device_of, first_tensor, read_images, unchanged
from ._maps import to_map
from ._places import check_order
from ._results import Estimate, Moments, Result
from ._trace import trace
from .fourier import log_amplitudes

DEFINITION = (
    "gain: high-frequency value (log amplitude at the last frequency minus that at 0) of a layer's "
    "output minus that of its input; below 0 is low-pass, above 0 high-pass. What the layer makes "
    "of zeros, its bias, is subtracted from the output first. {data}"
)


@dataclass(frozen=True)
class LayerGain:
    """One layer.

    Args:
        name, kind: kind is "attention" or "convolution".
        setting: what it is, e.g. "kernel 3, groups 1".
        gain: mean with its interval.
    """

    name: str
    kind: str
    setting: str
    gain: Estimate


@dataclass(frozen=True)
class FilterResult(Result):
    """Gains of all layers measured."""

    layers: tuple[LayerGain, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "layer": layer.name,
                "kind": layer.kind,
                "setting": layer.setting,
                "gain": layer.gain.mean,
                "low": layer.gain.low,
                "high": layer.gain.high,
            }
            for layer in self.layers
        ]

    def plot(self, path: str | Path) -> None:

        plot_filters([self], path)


def gains(before: Tensor, after: Tensor) -> Tensor:
    """Gain of high frequencies per image: (B, C, h, w) and (B, C', h, w) -> (B,)."""
    rows = [log_amplitudes(maps) for maps in (after, before)]
    high = [values[:, -1] - values[:, 0] for values in rows]
    return high[0] - high[1]


def random_layers(width: int) -> dict[str, tuple[str, Callable[[], nn.Module]]]:
    """For `random_layer_gains`: convolutions and attention of `width` channels, by kernel size,
    groups and window.
    """
    layers: dict[str, tuple[str, Callable[[], nn.Module]]] = {}
    for k in (1, 3, 5, 7, 9):
        for groups in dict.fromkeys((1, width // 4, width)):
            layers[f"convolution, kernel {k}, groups {groups}"] = (
                "convolution",
                lambda k=k, groups=groups: nn.Conv2d(
                    width, width, k, padding=k // 2, groups=groups
                ),
            )
    for k in (3, 5, 7, 9):
        layers[f"convolutional attention, kernel {k}"] = (
            "attention",
            lambda k=k: ConvAttention2d(width, num_heads=4, head_dim=width // 4, kernel_size=k),
        )
    for window in (2, 4, 8):
        layers[f"local attention, window {window}"] = (
            "attention",
            lambda window=window: LocalAttention(
                width, window_size=window, num_heads=4, head_dim=width // 4
            ),
        )
    layers["attention to all keys"] = (
        "attention",
        lambda: Attention2d(width, num_heads=4, head_dim=width // 4),
    )
    return layers


def random_layer_gains(
    make: dict[str, tuple[str, Callable[[], nn.Module]]],
    channels: int = 32,
    side: int = 16,
    seeds: int = 8,
    on_step: OnStep = ignore,
) -> FilterResult:
    """Gains of layers as initialised, on white noise.

    Args: make: setting -> (kind, a function that builds the layer, `channels` in and out).
    """
    found = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for number, (setting, (kind, build)) in enumerate(make.items(), start=1):
            moments = Moments()
            for seed in range(seeds):
                torch.manual_seed(seed)
                layer = build().eval()
                x = torch.randn(4, channels, side, side)
                moments.add(
                    gains(x, layer(x) - layer(torch.zeros_like(x[:1]))).mean(0, keepdim=True)
                )
            found.append(LayerGain(setting, kind, setting, moments.estimates()[0]))
            on_step(number)
    text = DEFINITION.format(data=f"Random layers, {seeds} seeds, white noise of {side} x {side}.")
    return FilterResult("layers as initialised", text, tuple(found))


def layer_gains(
    model: nn.Module, loader: Iterable[Any], name: str = "model", on_step: OnStep = ignore
) -> FilterResult:
    """Gains of every attention and every convolution of a model that keep the map's size.

    Attention without its skip. Raises: AnalysisError if there are none.
    """
    layers: dict[str, tuple[str, nn.Module]] = {}
    found: dict[str, Moments] = {}
    size = [0, 0]

    def look(key: str, inputs: tuple[Any, ...], more: dict[str, Any], output: Any) -> None:
        layer = layers[key][1]
        x = first_tensor(inputs, key)
        zeros = torch.zeros_like(x[:1])
        rest = [zeros if value is x else value for value in inputs[1:]]
        offset = layer.forward(zeros, *rest, **more)
        changed = first_tensor(output, key) - first_tensor(offset, key)
        before, after = (to_map(value, size, key, layer) for value in (x, changed))
        if before.shape[2:] == after.shape[2:] and min(after.shape[2:]) > 1:
            found.setdefault(key, Moments()).add(gains(before, after))

    device, dtype = device_of(model)
    done = 0
    with unchanged(model), ExitStack() as stack:
        for images in read_images(loader):
            images = images.to(device, dtype, copy=True)
            if not done:
                layers.update(_layers(model, images))
                watched = {key: layer for key, (_, layer) in layers.items()}
                check_order(model, watched, watched, images[:1])
                stack.enter_context(calls_to(watched, look, watched))
            size[:] = images.shape[2:]
            model(images)
            done += len(images)
            on_step(done)
    if not found:
        raise AnalysisError(
            f"{name} has no attention or convolution that keeps the map's size; use another model"
        )
    rows = tuple(
        LayerGain(key, layers[key][0], _setting(layers[key][1]), moments.estimates()[0])
        for key, moments in found.items()
    )
    return FilterResult(name, DEFINITION.format(data="On the images given."), rows)


def _layers(model: nn.Module, image: Tensor) -> dict[str, tuple[str, nn.Module]]:
    """Name -> (kind, module) of attentions and convolutions, the outermost of nested ones."""
    attending = set(trace(model, image).attending())
    found: dict[str, tuple[str, nn.Module]] = {}
    for name, module in model.named_modules():
        spatial = isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1
        nested = any(name.startswith(f"{outer}.") for outer in found)
        if (spatial or name in attending) and not nested:
            found[name] = ("attention" if name in attending else "convolution", module)
    return found


def _setting(module: Any) -> str:
    if isinstance(module, nn.Conv2d):
        return f"kernel {module.kernel_size[0]}, groups {module.groups}"
    if hasattr(module, "kernel_size"):
        return f"kernel {module.kernel_size}"
    window = getattr(module, "window_size", None)
    return f"window {window}" if window else "all keys"


def plot_filters(results: Sequence[FilterResult], path: str | Path) -> None:
    """A panel for each model or set of layers, one below the other, on one axis of gains."""
    counts = [len(result.layers) for result in results]
    figure = new_figure(6.4, 0.9 + sum(0.45 + 0.2 * count for count in counts))
    cells = figure.subplots(
        len(results), 1, sharex=True, squeeze=False,
        height_ratios=[1 + count for count in counts],
    )  # fmt: skip
    for axes, result in zip(cells[:, 0], results, strict=True):
        for place, layer in enumerate(result.layers):
            axes.plot([layer.gain.low, layer.gain.high], [place, place], color=INK, lw=1)
            axes.scatter(
                [layer.gain.mean], [place], s=34, marker=KIND_MARKERS[layer.kind],
                color=KIND_COLOURS[layer.kind], edgecolors=INK, linewidths=0.6, zorder=3,
            )  # fmt: skip
        names = [
            layer.name if layer.name == layer.setting else f"{layer.name} ({layer.setting})"
            for layer in result.layers
        ]
        axes.set_yticks(range(len(names)))
        axes.set_yticklabels(names, fontsize=7)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_title(result.model)
        tidy(axes)
    axes.set_xlabel("gain of high frequencies (below 0 low-pass, above 0 high-pass)")
    kind_legend(figure, [layer.kind for result in results for layer in result.layers])
    save(figure, path)
