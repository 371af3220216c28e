"""The loop: deterministic, equal for one process and two, continued to the bit, stopped in time."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import zoo
from zoo.errors import ConfigError, DivergedError, ResourceError, UnknownModelError, ZooError
from zoo.evaluation.evaluate import Accuracy
from zoo.files.locks import sole_writer
from zoo.files.manifest import check_files, read_manifest
from zoo.training import checkpoint as checkpointing
from zoo.training import loop
from zoo.training.job import EpochResult, Job, TrainingResult
from zoo.training.loop import Watch
from zoo.training.machine import Machine
from zoo.training.run import train_model

from ..surroundings import write_anew
from .helpers import digits_job, recipe, states_equal

ROOT = Path(__file__).resolve().parents[2]


def run(
    out: Path, *, resume: bool = False, watch: Watch | None = None, **job: object
) -> TrainingResult:
    return train_model(digits_job(**job), out, watch=watch, resume=resume, report=False)


def _assert_states_close(
    actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float
) -> None:
    """Absolutely: entries near 0 whose gradient is rounding alone have no relative meaning."""
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, atol=tolerance, rtol=0.0, msg=key)


def test_training_is_deterministic_from_its_seed(tmp_path: Path) -> None:
    random_state = torch.random.get_rng_state()
    first, again = run(tmp_path / "a"), run(tmp_path / "b")
    assert torch.equal(torch.random.get_rng_state(), random_state), "global generator touched"
    assert [row.loss for row in first.curve] == [row.loss for row in again.curve]
    assert states_equal(first.state, again.state)
    assert not states_equal(first.state, run(tmp_path / "c", seed=1).state)


def test_the_seconds_of_a_run_begin_with_its_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks at a clock that counts them: one at the start, one for every epoch, two at the end."""
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    result = run(tmp_path)
    assert [row.seconds for row in result.curve] == [1]
    assert result.seconds == result.curve[0].epoch + 2


def test_training_learns(tmp_path: Path) -> None:
    result = run(tmp_path, fraction=1.0, epochs=6)
    first, last = result.curve[0], result.curve[-1]
    assert last.loss < 0.9 * first.loss
    assert result.best.validation.percent > 30


def test_what_is_kept_is_the_best_epoch(tmp_path: Path) -> None:
    seen: list[tuple[EpochResult, dict[str, torch.Tensor]]] = []

    def on_epoch(result: EpochResult, model: torch.nn.Module) -> None:
        seen.append((result, {k: v.clone() for k, v in model.state_dict().items()}))

    result = run(tmp_path, epochs=3, watch=Watch(on_epoch=on_epoch))
    best = max(seen, key=lambda pair: (pair[0].validation.correct, pair[0].epoch))
    assert result.best.epoch == best[0].epoch
    assert states_equal(result.state, best[1])


def test_every_part_of_timm_takes_part(tmp_path: Path) -> None:
    """Mixup, RandAugment, erasing, repeated augmentation, SGD in steps, from a stream."""
    changes = {
        "pipeline": "stream", "mixup": 0.8, "cutmix": 1.0, "rand_augment": "rand-m5-mstd0.5-inc1",
        "erase": 0.5, "repeats": 2, "optimizer": "sgd", "schedule": "steps", "milestones": (1,),
        "crop": "padded", "drop_path": 0.2, "batch_size": 20, "epochs": 1, "ema_decay": 0.0,
    }  # fmt: skip
    first, again = run(tmp_path / "a", **changes), run(tmp_path / "b", **changes)
    assert states_equal(first.state, again.state)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["model_args"]["drop_path_rate"] == 0.2


def test_worker_processes_do_not_change_what_is_learned(tmp_path: Path) -> None:
    changes = {"pipeline": "stream", "rand_augment": "rand-m5-mstd0.5-inc1", "batch_size": 20}
    alone = run(tmp_path / "a", **changes)
    job = digits_job(**changes)
    helped = train_model(job, tmp_path / "b", machine=Machine(workers=2), report=False)
    assert states_equal(alone.state, helped.state)


def test_taking_a_step_in_parts_changes_rounding_only(tmp_path: Path) -> None:
    job = digits_job(batch_size=32)
    whole = train_model(job, tmp_path / "a", report=False)
    parts = train_model(job, tmp_path / "b", machine=Machine(micro_batch=8), report=False)
    assert not states_equal(whole.state, parts.state)
    _assert_states_close(parts.state, whole.state, 1e-4)  # 1.7e-5 at most over three seeds


def test_bfloat16_autocast_trains_float32_weights(tmp_path: Path) -> None:
    plain, mixed = run(tmp_path / "a"), run(tmp_path / "b", amp="bf16")
    assert {value.dtype for value in mixed.state.values()} == {torch.float32}
    assert not states_equal(plain.state, mixed.state)
    assert mixed.curve[-1].loss == pytest.approx(plain.curve[-1].loss, rel=2e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="float16 runs on this machine")
def test_a_precision_that_the_device_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'fp16' needs a GPU; pass --amp no"):
        run(tmp_path, amp="fp16")


_SCRIPT = """
import sys, time
import torch
torch.set_num_threads(1)
from tests.training.helpers import digits_job
from zoo.training.loop import Watch
from zoo.training.machine import Machine
from zoo.training.run import train_model
pause = float(sys.argv[2])
train_model(digits_job(epochs=3, fraction=0.2, batch_size=32), sys.argv[1],
    machine=Machine(cpu=True), resume=True, report=False,
    watch=Watch(on_epoch=lambda result, model: time.sleep(pause)))
"""


def _start(out: Path, pause: float = 0.0, *launcher: str) -> subprocess.Popen[bytes]:
    script = out.parent / "script.py"
    script.write_text(_SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(script), str(out), str(pause)]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)


def test_a_killed_run_continues_to_the_same_bits(tmp_path: Path) -> None:
    job = digits_job(epochs=3, fraction=0.2, batch_size=32)
    straight = train_model(job, tmp_path / "straight", report=False)
    out = tmp_path / "killed"
    process = _start(out, pause=60)
    deadline = time.monotonic() + 120
    while not (out / checkpointing.FILE).exists():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "model.safetensors").exists()
    _, facts = checkpointing.read_checkpoint(out)
    assert 1 <= facts["epoch"] < 15
    with pytest.raises(ZooError, match="unfinished run: continue it with --resume"):
        train_model(job, out, report=False)
    continued = train_model(job, out, resume=True, report=False)
    assert states_equal(continued.state, straight.state)
    assert [r.loss for r in continued.curve] == [r.loss for r in straight.curve]
    same = (out / "model.safetensors").read_bytes()
    assert same == (tmp_path / "straight" / "model.safetensors").read_bytes()
    assert not (out / checkpointing.FILE).exists()


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_global_batch(tmp_path: Path) -> None:
    alone = train_model(
        digits_job(epochs=3, fraction=0.2, batch_size=32), tmp_path / "one", report=False
    )
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert _start(tmp_path / "two", 0.0, *launcher).wait(timeout=300) == 0
    together = load_file(tmp_path / "two" / "model.safetensors")
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert [row["loss"] for row in metrics["curve"]] == pytest.approx(
        [row.loss for row in alone.curve], rel=0.0, abs=2e-4
    )
    _assert_states_close(together, alone.state, 5e-4)  # 0.5e-4 and 1.0e-4 on two machines


def test_a_directory_that_another_run_writes_is_refused(tmp_path: Path) -> None:
    with sole_writer(tmp_path):
        with pytest.raises(ResourceError, match="another process is writing it") as caught:
            run(tmp_path)
        assert caught.value.code == "in_use"
        assert not list(tmp_path.iterdir())

    def begin_another(done: int, total: int) -> None:
        with pytest.raises(ResourceError, match="another process is writing it"):
            run(tmp_path, resume=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, watch=Watch(on_start=begin_another))
    with sole_writer(tmp_path):
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_of_two_runs_that_begin_at_once_in_one_directory_one_is_whole(tmp_path: Path) -> None:
    def begin(out: Path, seed: int) -> subprocess.Popen[bytes]:
        fast = ("--config", "depth=1", "--config", "embed_dim=32", "--fraction", "0.1", "--cpu")
        where = ("--data", "digits", "--epochs", "3", "--seed", str(seed), "--out", str(out))
        command = [sys.executable, "-m", "zoo", "train", "convit_nano", *fast, *where]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    both = [begin(tmp_path / "run", seed) for seed in (0, 1)]
    said = [process.communicate(timeout=300)[1].decode() for process in both]
    winner = [process.returncode for process in both].index(0)
    assert both[1 - winner].returncode != 0, said
    assert "in use" in said[1 - winner] or "holds" in said[1 - winner], said
    assert begin(tmp_path / "alone", winner).communicate(timeout=300)
    for name in ("model.safetensors", "config.json"):
        alone = (tmp_path / "alone" / name).read_bytes()
        assert (tmp_path / "run" / name).read_bytes() == alone, name
    names = [sorted(p.name for p in (tmp_path / out).iterdir()) for out in ("run", "alone")]
    assert names[0] == names[1]
    check_files(tmp_path / "run", read_manifest(tmp_path / "run"))


def test_another_job_is_not_continued(tmp_path: Path) -> None:
    def stop(result: EpochResult, model: torch.nn.Module) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, epochs=2, watch=Watch(on_epoch=stop))
    with pytest.raises(ConfigError, match=r"another run: recipe\.lr was 0\.003, is 0\.001\."):
        run(tmp_path, epochs=2, lr=1e-3, resume=True)


def test_a_checkpoint_is_used_only_if_every_byte_is_as_it_was_written(tmp_path: Path) -> None:
    tensors = {"model": {"a": torch.arange(50.0), "b": torch.ones(3)}, "ema": {"a": torch.ones(2)}}
    row = EpochResult(3, 0.25, Accuracy(1, 2), 1.0, 0.1)
    state = {"job": {}, "optimizer": {"groups": [], "values": {}}, "scaler": None, "epoch": 3}
    state |= {"curve": [asdict(row)], "best_epoch": 3, "seconds": 2.0}
    checkpointing.write_checkpoint(tmp_path, tensors, state)
    file = tmp_path / checkpointing.FILE
    whole = file.read_bytes()
    groups, facts = checkpointing.read_checkpoint(tmp_path)
    assert torch.equal(groups["model"]["a"], torch.arange(50.0))
    assert facts["curve"] == [row]
    dice = random.Random(0)
    for number in range(500):
        changed = bytearray(whole)
        changed[number % len(whole)] ^= 1 << dice.randrange(8)
        write_anew(file, bytes(changed))
        with pytest.raises(ZooError):
            checkpointing.read_checkpoint(tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / checkpointing.FILE).write_bytes(b"\x80\x02 a pickle")
    with pytest.raises(zoo.errors.WeightsFileError, match="pickle"):
        run(tmp_path, resume=True)


def test_a_loss_of_nan_stops_with_the_best_weights(tmp_path: Path) -> None:
    def poison(result: EpochResult, model: torch.nn.Module) -> None:
        if result.epoch == 10:
            learning["lr"] = float("nan")

    learning: dict[str, float] = {}
    original = zoo.training.learner.Learner.step

    def step(self: object, x: torch.Tensor, y: torch.Tensor, update: int) -> torch.Tensor:
        return original(self, x * learning.get("lr", 1.0), y, update)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo.training.learner.Learner, "step", step)
        with pytest.raises(DivergedError, match=r"epoch 11, by step 1.*weights of epoch") as caught:
            run(tmp_path, epochs=2, watch=Watch(on_epoch=poison))
    assert caught.value.code == "diverged"
    state = load_file(tmp_path / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in state.values())
    model = zoo.create_model(str(tmp_path), pretrained=True)
    assert states_equal(model.state_dict(), state)


def test_a_loss_of_nan_in_the_first_epoch_leaves_no_weights(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="a smaller --lr"):
        run(tmp_path, lr=1e30, clip_norm=0.0, warmup_epochs=0, batch_size=16)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_full_disk_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    original = checkpointing.write_bytes

    def write(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise ResourceError(f"cannot write {path}: no space left", code="disk_full")
        written.append(path)
        original(path, data)

    monkeypatch.setattr(checkpointing, "write_bytes", write)
    with pytest.raises(ResourceError) as caught:
        run(tmp_path / "full", epochs=3)
    assert caught.value.code == "disk_full"
    monkeypatch.undo()
    assert checkpointing.read_checkpoint(tmp_path / "full")[1]["epoch"] == 20
    continued = run(tmp_path / "full", epochs=3, resume=True)
    assert states_equal(continued.state, run(tmp_path / "straight", epochs=3).state)


def test_an_unwritable_place_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        run(tmp_path / "file" / "run")


def test_unknown_data_and_models_are_errors(tmp_path: Path) -> None:
    with pytest.raises(zoo.errors.NotFoundError, match="no such folder: 'mnist'"):
        train_model(Job(model="convit_nano", data="mnist"), tmp_path)
    with pytest.raises(UnknownModelError, match="convit_nano"):
        train_model(Job(model="convit_nan", data="digits"), tmp_path)
    with pytest.raises(ConfigError, match="name its architecture and --finetune-from runs/a"):
        train_model(Job(model="runs/a", data="digits"), tmp_path)


def test_a_job_stretches_its_epochs_by_the_fraction() -> None:
    planned = replace(digits_job(), fraction=0.25, recipe=recipe(epochs=8, warmup_epochs=2)).planned
    assert (planned.epochs, planned.warmup_epochs, planned.validate_every) == (32, 8, 4)
