"""Convolutional SANs of Yang et al.: goldens/CONSTRUCTORS section 7, recipes of kind `csan`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.goldens import fill
from zoo.layers.csan import ConvolutionalSelfAttention

from . import Built

TARGETS: dict[str, Callable[..., Built]] = {}  # these cases have a recipe instead of a `build`

UPSTREAM = {"half_width": 5, "head_offsets": [-1, 0, 1]}  # hard-coded in the original
KEYS = {  # ours -> theirs; their matrices are (in, out)
    "qkv.weight": "multihead_attention/qkv_transform/matrix",
    "qkv.bias": "multihead_attention/qkv_transform/bias",
    "proj.weight": "multihead_attention/output_transform/matrix",
    "proj.bias": "multihead_attention/output_transform/bias",
}
ABOUT = {"id", "family", "kind", "repo", "description", "recipe", "module", "file", "arrays"}
ABOUT |= {"state_dict_sha256", "keys_not_filled", "float32_vs_float64", "output_names"}
FIELDS = {"function", "shape", "hidden", "heads", "lengths", "qkv", "seed", "gain", "spec"}
FIELDS |= set(UPSTREAM)


def run(case: dict[str, Any], folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Outputs of a case in `dtype`: `weights` (b, h, n, m * n) and `outputs`."""
    unknown = set(case) - ABOUT - FIELDS
    if unknown:
        raise NotImplementedError(f"fields {sorted(unknown)} have no counterpart")
    function = case.get("function", case["recipe"])
    with torch.no_grad():
        return _FUNCTIONS[function](case, folder, dtype)


def _multihead(case: dict[str, Any], folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    layer = _filled(case, folder).to(dtype)
    x = _input(case, case["shape"], "x", dtype)
    bias = _padding_bias(case, x.shape[1], dtype)
    return {"weights": layer.attention_weights(x, bias), "outputs": layer(x, bias)}


def _core(case: dict[str, Any], folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Attention of given q, k and v."""
    assert case.get("state_dict_sha256", fill.spec_sha256([])) == fill.spec_sha256([])
    q, k, v = (_input(case, case["qkv"], name, dtype) for name in "qkv")
    layer = _layer(case, q.shape[1] * q.shape[3], q.shape[1], q.shape[3])
    bias = _padding_bias(case, q.shape[2], dtype)
    return {"weights": layer.weigh(q, k, bias), "outputs": layer.attend(q, k, v, bias)}


_FUNCTIONS = {
    "multihead_attention": _multihead,
    "multiplicative_attention": _core,
    "csan_reference": _core,
}


def _layer(case: dict[str, Any], dim: int, heads: int, head_dim: int) -> ConvolutionalSelfAttention:
    if case["recipe"] == "csan_reference":
        window = {name: case[name] for name in UPSTREAM}
    else:
        window = {name: case.get(name, value) for name, value in UPSTREAM.items()}
    return ConvolutionalSelfAttention(
        dim, heads, **window, head_dim=head_dim, dim_out=heads * head_dim
    ).eval()


def _filled(case: dict[str, Any], folder: Path) -> ConvolutionalSelfAttention:
    """The layer with the case's weights, after comparing keys, order, shapes and dtypes."""
    heads = case["heads"]
    layer = _layer(case, case["shape"][-1], heads, case["hidden"] // heads)
    spec = fill.load_spec(folder / case["spec"])
    rows = [
        [KEYS[key], list(value.t().shape), str(value.dtype).removeprefix("torch.")]
        for key, value in layer.state_dict().items()
    ]
    assert rows == [row[:3] for row in spec], "keys, order, shapes or dtypes differ"
    assert fill.spec_sha256(rows) == case["state_dict_sha256"]
    assert not case.get("keys_not_filled")
    filled = fill.fill_state_dict(spec, case["seed"], case.get("gain", 1.0))
    state = {ours: torch.from_numpy(filled[theirs]).t() for ours, theirs in KEYS.items()}
    layer.load_state_dict(state, strict=True)
    return layer


def _input(case: dict[str, Any], shape: list[int], name: str, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(fill.make_input(shape, case["seed"], 1.0, name)).to(dtype)


def _padding_bias(case: dict[str, Any], tokens: int, dtype: torch.dtype) -> Tensor | None:
    """(1 - mask) * -1e9, (b, 1, 1, n), as the original adds it."""
    if "lengths" not in case:
        return None
    lengths = torch.tensor(case["lengths"])
    mask = (torch.arange(tokens)[None, :] < lengths[:, None]).to(dtype)
    return (1 - mask)[:, None, None, :] * -1e9
