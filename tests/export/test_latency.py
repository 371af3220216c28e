"""The arithmetic of measurements on made-up times, and the structure of results. Never speed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from export.speed import loading_cost, side_by_side
from export.speed.forms import COMPILED, EAGER, OPENVINO, RUNTIME, SCRIPT, LatencySettings
from export.speed.loading_cost import DIGEST, TIMM, TOTAL, LoadingCost, bench_load
from export.speed.side_by_side import bench_model
from export.speed.timing import (
    Ratio,
    Timing,
    limited_threads,
    measure_rounds,
    ratio_of,
)
from zoo.errors import ConfigError
from zoo.files.processes import run_python


def test_percentiles_are_those_of_the_samples() -> None:
    timing = Timing(tuple(float(x) for x in range(1, 102)))
    assert timing.median_ms == 51
    assert timing.percentile_ms(90) == 91
    assert timing.percentile_ms(99) == 100
    assert timing.min_ms == 1
    assert timing.to_dict() == {
        "median_ms": 51, "min_ms": 1, "p90_ms": 91, "p99_ms": 100, "rounds": 101,
    }  # fmt: skip


@pytest.mark.parametrize("samples", [(), (1.0, 0.0), (1.0, -2.0), (math.nan,), (math.inf,)])
def test_impossible_times_are_refused(samples: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError):
        Timing(samples)


def test_a_ratio_is_the_median_of_ratios_within_rounds() -> None:
    """A slow spell that hits both of a round cancels; the ratio of medians would show it."""
    ours = Timing((1.0, 2.0, 50.0, 3.0, 4.0))
    peer = Timing((3.0, 6.0, 150.0, 9.0, 12.0))
    assert ratio_of(peer, ours) == Ratio(3.0, 3.0, 3.0)


def test_the_interval_holds_the_ratio_narrows_with_rounds_and_repeats_exactly() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    noise = 1 + 0.1 * generator.random(400)
    base = 1 + generator.random(400)

    def measured(rounds: int) -> Ratio:
        return ratio_of(
            Timing(tuple(2 * base[:rounds] * noise[:rounds])), Timing(tuple(base[:rounds]))
        )

    few, many = measured(10), measured(400)
    assert few.low <= few.value <= few.high
    assert many.high - many.low < few.high - few.low
    assert many.low < 2 * 1.05 < many.high
    assert measured(400) == many


def test_a_ratio_of_timings_from_other_rounds_is_refused() -> None:
    with pytest.raises(ConfigError, match="same rounds; got 2 and 3"):
        ratio_of(Timing((1.0, 1.0)), Timing((1.0, 1.0, 1.0)))


def test_scaling_a_ratio_scales_its_interval() -> None:
    assert Ratio(2.0, 1.0, 4.0).scaled(0.5) == Ratio(1.0, 0.5, 2.0)


def test_every_round_calls_every_candidate_once_in_an_order_that_rotates() -> None:
    called: list[str] = []
    names = ("a", "b", "c")
    runs = {name: (lambda n=name: called.append(n)) for name in names}
    times = measure_rounds(runs, 4, warmup=1)
    assert [len(t.samples_ms) for t in times.values()] == [4, 4, 4]
    assert "".join(called) == "abc" + "abc" + "bca" + "cab" + "abc"


def test_repeats_are_calls_per_sample() -> None:
    called: list[int] = []
    (timing,) = measure_rounds({"a": lambda: called.append(1)}, 3, warmup=2, repeats=5).values()
    assert len(called) == 2 + 3 * 5
    assert len(timing.samples_ms) == 3


def test_the_time_limit_leaves_three_rounds() -> None:
    (timing,) = measure_rounds({"a": lambda: None}, 50, limit_s=0.0).values()
    assert len(timing.samples_ms) == 3


@pytest.mark.parametrize("bad", [{"rounds": 2}, {"warmup": -1}, {"repeats": 0}])
def test_bad_counts_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected rounds >= 3"):
        measure_rounds({"a": lambda: None}, **bad)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to measure"):
        measure_rounds({})


def _fail_inside(threads: int) -> None:
    with limited_threads(threads):
        raise RuntimeError(f"inside, {torch.get_num_threads()} threads")


def test_the_thread_limit_ends_with_the_block() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match=f"inside, {before + 1} threads"):
        _fail_inside(before + 1)
    assert torch.get_num_threads() == before
    with pytest.raises(ConfigError, match="threads must be at least 1; got 0"):
        _fail_inside(0)


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_peak_memory_is_that_of_the_call_also_when_it_is_freed_again() -> None:
    code = (
        "from export.speed.timing import peak_memory_mib\n"
        "print(peak_memory_mib(lambda: bytearray(b'x' * (64 << 20)) and None))"
    )
    done = run_python("-c", code, capture_output=True, text=True, check=True)
    assert 60 <= float(done.stdout) < 64 * 3  # a few pages may have been there


@pytest.fixture(scope="module")
def nano() -> side_by_side.ModelLatency:
    """On a machine without a C++ compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.which", lambda _: None)
        return bench_model("convit_nano", LatencySettings(rounds=3, batch=2, size=(32, 48)))


def test_all_forms_of_a_model_answer_alike(nano: side_by_side.ModelLatency) -> None:
    assert [c.by for c in nano.candidates] == [EAGER, SCRIPT, RUNTIME, OPENVINO]
    assert nano.shape == (2, 3, 32, 48)
    assert all(c.difference < 1e-5 for c in nano.candidates)


def test_without_a_compiler_torch_compile_is_skipped_and_says_why(
    nano: side_by_side.ModelLatency,
) -> None:
    assert nano.skipped == {COMPILED: "no C++ compiler was found (g++, clang++, c++, or CXX)"}


def test_the_json_has_percentiles_throughput_and_ratios(nano: side_by_side.ModelLatency) -> None:
    found = json.loads(json.dumps(nano.to_dict()))
    assert found["weights"].startswith("random")
    assert found["shape"] == [2, 3, 32, 48]
    first = found["candidates"][0]
    assert first["of_eager"] == {"value": 1.0, "interval95": [1.0, 1.0]}
    for row in found["candidates"]:
        assert row["min_ms"] <= row["median_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["images_per_s"] == pytest.approx(2000 / row["median_ms"])


def test_a_candidate_that_does_not_run_is_skipped_and_says_why() -> None:
    def broken(batch: object) -> object:
        raise RuntimeError("out of luck\nand more")

    skipped: dict[str, str] = {}
    runs = {EAGER: lambda batch: batch, SCRIPT: broken}
    answers = side_by_side._first_answers(runs, np.zeros((1, 2), np.float32), skipped)
    assert list(answers) == [EAGER]
    assert skipped == {SCRIPT: "it does not run: RuntimeError: out of luck"}


def test_an_exported_file_runs_alone(exported: Path) -> None:
    file = str(exported / "onnx" / "model.onnx")
    found = bench_model(file, LatencySettings(rounds=3))
    assert [c.by for c in found.candidates] == ["model.onnx"]
    assert found.shape == (1, 3, 32, 32)


def test_a_file_that_does_not_say_its_size_needs_one(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in "xy"
    ]
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "foreign", values[:1], values[1:])
    opset = helper.make_opsetid("", 20)
    path = tmp_path / "foreign.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    with pytest.raises(ConfigError, match="pass --size"):
        bench_model(str(path), LatencySettings(rounds=3))


@pytest.mark.parametrize(
    "bad", [{"batch": 0}, {"threads": 0}, {"size": (0, 32)}, {"provider": "tpu"}]
)
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        LatencySettings(**bad)


def test_loading_is_measured_by_steps() -> None:
    found = bench_load("convit_nano", rounds=3)
    assert {TOTAL, DIGEST} <= found.timings.keys()
    assert "has no convit_nano" in found.skipped[TIMM]
    content = json.loads(json.dumps(found.to_dict()))
    assert content["name"] == "convit_nano"
    assert content["size_bytes"] > 1_000_000
    assert content["of_timm"] is None
    assert 0 < content["sha256_share"]["value"] < 1


def test_the_load_without_its_digest_is_the_difference_round_by_round() -> None:
    timings = {TOTAL: Timing((10.0, 30.0, 20.0)), DIGEST: Timing((4.0, 5.0, 6.0))}
    assert LoadingCost("m", 1, 1, timings, {}).without_digest.samples_ms == (6.0, 25.0, 14.0)


def test_loading_beside_timm_states_a_ratio() -> None:
    timings = {TOTAL: Timing((1.0, 1.0)), DIGEST: Timing((0.5, 0.5)), TIMM: Timing((4.0, 4.0))}
    cost = LoadingCost("m", 1, 1, timings, {})
    assert cost.of_timm == Ratio(0.25, 0.25, 0.25)


def test_without_timm_its_step_is_missing_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert loading_cost._timm_peer("convit_base", torch.nn.Identity()) == "timm is not installed"


def test_loading_from_nowhere_is_refused() -> None:
    with pytest.raises(ConfigError, match="an architecture or a model directory"):
        bench_load("no/such/place", rounds=3)
