"""Laws that hold for any input: drawn by hypothesis, the same ones every time."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.catalog.names import check_names
from zoo.catalog.references import kind_of, split_hub_reference
from zoo.catalog.weights_records import InputSpec
from zoo.data.preprocessing import _resize_and_crop, preprocess
from zoo.errors import ZooError
from zoo.evaluation.intervals import Z, bootstrap, wilson
from zoo.evaluation.metrics import confusion_matrix, summarize
from zoo.evaluation.outcomes import Outcomes, judge
from zoo.factory.config_json import parse_config
from zoo.files.manifest import parse_manifest
from zoo.layers.position_factors import attend, attend_as_graph, factors, joint, probabilities
from zoo.layers.windows import from_windows, relative_bias, to_windows

law = functools.partial(settings, max_examples=40, deadline=None, derandomize=True, database=None)
sides = st.integers(1, 300)
small = st.integers(1, 5)


@law()
@given(height=sides, width=sides, size=st.tuples(sides, sides), crop=st.floats(0.3, 1.0))
def test_an_image_of_any_size_becomes_one_of_the_wanted_size(
    height: int, width: int, size: tuple[int, int], crop: float
) -> None:
    """And a picture of one colour stays one, in values that are counted by hand."""
    spec = InputSpec(size=size, crop_pct=crop, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    found = preprocess(np.full((height, width, 3), (255, 51, 0), np.uint8), spec)
    assert found.shape == (3, *size)
    assert np.abs(found - np.reshape([1.0, -0.2, 0.0], (3, 1, 1))).max() < 1e-6


@law()
@given(half=st.integers(1, 60), wide=st.integers(0, 80), tall=st.booleans())
def test_the_crop_is_from_the_middle(half: int, wide: int, tall: bool) -> None:
    """Without a resize: a ramp along the longer side, seen from `wide` pixels on."""
    side = 2 * half
    ramp = np.tile(np.arange(side + 2 * wide, dtype=np.uint8), (side, 1))
    image = Image.fromarray(ramp.T.copy() if tall else ramp).convert("RGB")
    found = np.asarray(_resize_and_crop(image, InputSpec(size=(side, side), crop_pct=1.0)))
    row = found[:, 0, 0] if tall else found[0, :, 0]
    assert row.tolist() == ((np.arange(side) + wide) % 256).tolist()


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)


@law()
@given(org=names, name=names, revision=st.one_of(st.just(""), names))
def test_a_hub_reference_comes_apart_into_what_it_was_made_of(
    org: str, name: str, revision: str
) -> None:
    text = f"hf-hub:{org}/{name}" + (f"@{revision}" if revision else "")
    assert kind_of(text) == "hf-hub"
    try:
        check_names(f"{org}/{name}", revision=revision)
    except ZooError:
        return  # a device of Windows, say
    assert split_hub_reference(text) == (f"{org}/{name}", revision or "main")


@law(max_examples=150)
@given(text=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=60))
def test_any_text_is_some_kind_of_reference_or_a_typed_error(text: str) -> None:
    known = "name directory file hf-hub timm torchvision hf py"
    try:
        assert kind_of(text) in known.split()
        repo, revision = split_hub_reference(text)
    except ZooError:
        return
    assert re.fullmatch(r"[^/]+/[^/]+", repo)
    assert revision
    assert ".." not in repo.split("/")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
manifests = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("format_version", "name", "version", "files", "digest"), values)
)


@law(max_examples=100)
@given(content=st.one_of(values, manifests))
def test_any_json_is_read_as_a_manifest_or_config_or_refused(content: Any) -> None:
    for read in (parse_manifest, parse_config):
        with contextlib.suppress(ZooError):
            read(json.dumps(content).encode(), "it")


@law()
@given(batch=small, channels=small, grid=st.tuples(small, small), window=small, seed=st.integers(0))
def test_cutting_into_windows_and_back_is_the_identity(
    batch: int, channels: int, grid: tuple[int, int], window: int, seed: int
) -> None:
    height, width = grid[0] * window, grid[1] * window
    x = torch.arange(batch * channels * height * width).reshape(batch, channels, height, width)
    windows = to_windows(x, window)
    assert windows.shape == (batch * grid[0] * grid[1], window * window, channels)
    assert torch.equal(from_windows(windows, window, grid), x)
    n, row, column = seed % batch, seed % height, seed % width
    place = (n * grid[0] + row // window) * grid[1] + column // window
    inside = (row % window) * window + column % window
    assert torch.equal(windows[place, inside], x[n, :, row, column])


@law()
@given(window=st.integers(1, 6), query=st.integers(0), key=st.integers(0))
def test_a_bias_belongs_to_an_offset_of_key_and_query(window: int, query: int, key: int) -> None:
    side, tokens = 2 * window - 1, window * window
    table = torch.arange(side * side).reshape(side, side)
    query, key = query % tokens, key % tokens
    dy, dx = key // window - query // window, key % window - query % window
    expected = table[dy + window - 1, dx + window - 1]
    assert relative_bias(table, window)[query, key] == expected


units = st.floats(0.25, 2.0)


@law()
@given(grid=st.tuples(small, small), heads=small, unit=st.tuples(units, units), seed=small)
def test_factors_of_positions_are_the_dense_softmax(
    grid: tuple[int, int], heads: int, unit: tuple[float, float], seed: int
) -> None:
    """softmax(w0 dx + w1 dy + w2 (dx^2 + dy^2) + b) over all keys, written out."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(heads, 3, dtype=torch.float64, generator=generator)
    bias = torch.randn(heads, dtype=torch.float64, generator=generator)
    rows, columns = factors(weight, bias, grid, unit, probabilities)
    y, x = (t.flatten().double() for t in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    dy, dx = (y - y[:, None]) * unit[0], (x - x[:, None]) * unit[1]
    w = weight[:, :, None, None]
    dense = (w[:, 0] * dx + w[:, 1] * dy + w[:, 2] * (dx**2 + dy**2)).softmax(-1)
    torch.testing.assert_close(joint(rows, columns), dense, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))
    tokens, hd = grid[0] * grid[1], 2
    v = torch.randn(2, tokens, heads * hd, dtype=torch.float64, generator=generator)
    expected = torch.einsum("hqk,bkhd->bhqd", dense, v.view(2, tokens, heads, hd))
    found = attend(rows, columns, v).reshape(2, heads, tokens, hd)
    torch.testing.assert_close(found, expected)
    as_tokens = expected.transpose(1, 2).flatten(2)
    torch.testing.assert_close(attend_as_graph(rows, columns, v), as_tokens)


def _answers(count: int, classes: int, seed: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.full(classes, 0.3), count)
    return p, generator.integers(0, classes, count)


answers = {"count": st.integers(2, 60), "classes": st.integers(2, 12), "seed": st.integers(0, 999)}


@law()
@given(cut=st.integers(1, 59), **answers)
def test_metrics_heed_neither_order_nor_parts(
    count: int, classes: int, seed: int, cut: int
) -> None:
    p, y = _answers(count, classes, seed)
    whole = summarize(judge(p, y))
    order = np.random.default_rng(seed).permutation(count)
    cut = 1 + cut % (count - 1)
    parts = Outcomes.join(
        [judge(p[order[:cut]], y[order[:cut]]), judge(p[order[cut:]], y[order[cut:]])]
    )
    found = summarize(parts)
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    matrix = confusion_matrix(parts)
    assert matrix.sum() == count
    assert np.trace(matrix) == (p.argmax(-1) == y).sum()


@law()
@given(total=st.integers(1, 10_000), part=st.floats(0, 1))
def test_the_interval_of_a_share_holds_the_share_and_solves_its_equation(
    total: int, part: float
) -> None:
    """Wilson's bounds are the p with (share - p)^2 = z^2 p (1 - p) / n."""
    right = round(part * total)
    low, high = wilson(right, total)
    share = right / total
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    for bound in (low, high):
        assert math.isclose((share - bound) ** 2, Z * Z * bound * (1 - bound) / total, abs_tol=1e-9)
    mirrored = wilson(total - right, total)
    assert np.allclose(mirrored, (1 - high, 1 - low), atol=1e-12)


@law(max_examples=15)
@given(size=st.integers(2, 20), seed=st.integers(0, 99))
def test_the_bootstrap_draws_as_many_as_there_are(size: int, seed: int) -> None:
    seen: list[Any] = []
    bounds = bootstrap(
        lambda w: seen.append(w) or {"mean": w @ np.arange(size) / size}, size, 40, seed
    )
    assert all(w.sum() == size and (w == w.round()).all() and (w >= 0).all() for w in seen)
    for low, high in bounds.values():
        assert 0 <= low <= high <= size - 1
