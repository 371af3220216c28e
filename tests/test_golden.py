"""Golden cases: our constructors against recorded outputs of the original implementations.

`CONVATTN_GOLDENS` names another folder in the same format. Only manifest.json, specs/ and data/ are
read from it; weights and inputs are made by this repository's `tests/goldens/fill.py`.
"""

from __future__ import annotations

import ast
import copy
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.golden_targets import Built, analysis, build, csan, metrics
from tests.goldens import fill
from zoo.layers.mc_dropout import MCDropout

OWN = Path(__file__).parent / "goldens"
FOLDER = Path(os.environ.get("CONVATTN_GOLDENS") or OWN)
LARGE = 25_000_000  # parameters
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
TOLERANCE = {"f64": 1e-10, "f32": 1e-4}
DTYPE = {"f64": torch.float64, "f32": torch.float32}

# Kinds whose cases name a recipe instead of a constructor: (case, folder, dtype) -> named outputs.
RECIPES = {"csan": csan.run, "metrics": metrics.run, "analysis": analysis.run}


def _cases(*kinds: str) -> list[Any]:
    return [
        pytest.param(case, id=f"golden-{case['id']}", marks=_marks(case))
        for case in MANIFEST["cases"]
        if case["kind"] in kinds
    ]


def _marks(case: dict[str, Any]) -> Any:
    """The larger models of families that have smaller ones here are slow."""
    sizes = [c.get("param_count", 0) for c in MANIFEST["cases"] if c["family"] == case["family"]]
    large = case.get("param_count", 0) > max(LARGE, min(sizes))
    return pytest.mark.slow if large and FOLDER == OWN else ()


def _other_kinds() -> list[Any]:
    known = ("model", "layer", "init")
    return [
        pytest.param(case, id=f"golden-{case['id']}")
        for case in MANIFEST["cases"]
        if case["kind"] not in known
    ]


def _inputs(case: dict[str, Any], dtype: torch.dtype) -> tuple[list[Any], dict[str, Any]]:
    positional, named = [], {}
    for entry in case["inputs"]:
        array = fill.make_input(
            entry["shape"], case["seed"], entry.get("scale", 1.0), entry.get("name", "x")
        )
        if entry.get("minus_1e9_where_above_1"):
            array = np.where(array > 1, np.float32(-1e9), np.float32(0))
        tensor = torch.from_numpy(array).to(dtype)
        if entry.get("keyword"):
            named[entry["name"]] = tensor
        else:
            positional.append(tensor)
    return positional, named


def _flatten(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for item in value for tensor in _flatten(item)]


def _first(value: Any) -> torch.Tensor:
    return _flatten(value)[0]


def _filled(case: dict[str, Any]) -> Built:
    """Construct, check the state dict against the spec, and load the filled weights."""
    built = build(case["build"])
    module = built.module.eval()
    spec = fill.load_spec(FOLDER / case["spec"])
    rows = [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in module.state_dict().items()
    ]
    assert rows == [row[:3] for row in spec], "keys, order, shapes or dtypes differ"
    assert fill.spec_sha256(rows) == case["state_dict_sha256"]
    state = {
        key: torch.from_numpy(value)
        for key, value in fill.fill_state_dict(spec, case["seed"], case["gain"]).items()
    }
    kept = case.get("keys_not_filled", [])
    result = module.load_state_dict(state, strict=not kept)
    assert sorted(result.missing_keys) == sorted(kept)
    assert not result.unexpected_keys
    return built


def _prescribe_masks(module: torch.nn.Module, case: dict[str, Any]) -> list[Any]:
    """Multiply call i of MC dropout, which is off in eval, by the case's mask i."""
    calls = itertools.count()

    def drop(layer: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        index = next(calls)
        call = [list(output.shape), layer.rate]
        assert call == case.get("dropout_calls", {index: call})[index], f"dropout call {index}"
        mask = fill.make_dropout_mask(output.shape, layer.rate, case["seed"], index)
        return output * torch.from_numpy(mask).to(output.dtype)

    layers = [m for m in module.modules() if isinstance(m, MCDropout) and m.rate > 0]
    assert layers, "the model has no MC dropout"
    assert len(case.get("dropout_calls", layers)) == len(layers)
    return [layer.register_forward_hook(drop) for layer in layers]


def _run(built: Built, case: dict[str, Any], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    module = copy.deepcopy(built.module).to(dtype)
    positional, named = _inputs(case, dtype)
    taps: dict[str, torch.Tensor] = {}
    modules = dict(module.named_modules())

    def tap(path: str) -> Any:
        return lambda _module, _inputs, output: taps.setdefault(f"tap:{path}", _first(output))

    handles = [modules[path].register_forward_hook(tap(path)) for path in case.get("taps", [])]
    handles += _prescribe_masks(module, case) if case.get("dropout") else []
    if "method" in case:
        assert built.methods is not None, "the original's methods are not mapped"
        function = built.methods[case["method"]]
    else:
        function = built.call or (lambda module, *args, **kwargs: module(*args, **kwargs))
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.no_grad():
            outputs = function(module, *positional, **named, **case.get("call_kwargs", {}))
    finally:
        torch.set_default_dtype(default)
        for handle in handles:
            handle.remove()
    flat = _flatten(outputs)
    assert len(flat) == len(case["output_names"])
    return {**dict(zip(case["output_names"], flat, strict=True)), **taps}


@pytest.mark.parametrize("case", _cases("model", "layer"))
def test_outputs_equal_the_original(case: dict[str, Any]) -> None:
    built = _filled(case)
    _assert_outputs(case, lambda dtype: _run(built, case, dtype))


def _assert_outputs(
    case: dict[str, Any], run: Callable[[torch.dtype], dict[str, torch.Tensor]]
) -> None:
    assert case["arrays"]
    assert {name.rpartition(".")[2] for name in case["arrays"]} <= DTYPE.keys()
    with np.load(FOLDER / case["file"]) as recorded:
        for precision in ("f64", "f32"):
            wanted = [name for name in case["arrays"] if name.endswith(f".{precision}")]
            if not wanted:
                continue
            actual = run(DTYPE[precision])
            for name in wanted:
                value = actual[name.removesuffix(f".{precision}")]
                about = case["arrays"][name]
                assert list(value.shape) == about["shape"], name
                array = value.numpy()
                if "subsampled" in about:
                    array = fill.subsample(array, about["subsampled"])
                error = fill.relative_error(array, recorded[name])
                assert error <= TOLERANCE[precision], f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("case", _cases("init"))
def test_initial_values_equal_the_original(case: dict[str, Any]) -> None:
    state = build(case["build"]).module.state_dict()
    with np.load(FOLDER / case["file"]) as recorded:
        for key in case["keys"]:
            value = state[key].numpy()
            if key in case["rows"]:
                value = value[case["rows"][key]]
            name = f"{key}.f32"
            about = case.get("arrays", {}).get(name, {})
            if "subsampled" in about:
                value = fill.subsample(value, about["subsampled"])
            np.testing.assert_array_equal(value, recorded[name], err_msg=key)


if _other_kinds():

    @pytest.mark.parametrize("case", _other_kinds())
    def test_other_kinds(case: dict[str, Any]) -> None:
        if case["kind"] not in RECIPES:
            raise NotImplementedError(f"no runner for golden cases of kind {case['kind']!r}")
        _assert_outputs(case, lambda dtype: RECIPES[case["kind"]](case, FOLDER, dtype))


def test_golden_fill_makes_the_recorded_values() -> None:
    """Weights and inputs of the cases come from this repository's fill.py."""
    assert MANIFEST["fill_check"]
    for expression, expected in MANIFEST["fill_check"].items():
        call = ast.parse(expression, mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        value = getattr(fill, call.func.id)(*(ast.literal_eval(arg) for arg in call.args))
        np.testing.assert_array_equal(value, np.asarray(expected, dtype=value.dtype))
