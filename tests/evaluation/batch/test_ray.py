"""Rows from Ray: those of one process to the bit, whatever dies on the way."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from zoo.cli import main
from zoo.errors import ProviderError, ResourceError
from zoo.evaluation.batch import ray_engine
from zoo.evaluation.batch.ray_engine import RayEngine

ROWS, IMAGES = 40, 400  # of a part, here; in all
# Every process of the cluster runs this first: small parts, four logical CPUs, a decoder that takes
# its time and, where it is told to, dies of an image.
BEFORE = f"""
import os, signal, time
import zoo.data.cores, zoo.data.image_reading as reading
zoo.data.cores.available_cores = lambda: 4
decode = reading.decode
def slow(data, name):
    if data[:4] == b"boom" and "BOOM" in os.environ:
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(float(os.environ.get("PAUSE", 0)))
    return decode(data, name)
reading.decode = slow
import zoo.evaluation.batch.stream as stream
stream.PART_ROWS = {ROWS}
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of ten images three are damaged; number 205 kills the decoder that is told to die."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        path = folder / f"{number:03}.png"
        Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
        if number % 10 in (1, 4, 7):
            path.write_bytes(path.read_bytes()[: 60 + number % 3])
    (folder / "205.png").write_bytes(b"boom")
    (folder / "sitecustomize.py").write_text(BEFORE)
    return folder


def start(model: Path, pictures: Path, out: Path, *more: str, **env: str) -> subprocess.Popen[str]:
    file = str(model / "onnx" / "model.onnx")
    here = pictures / ".here"  # a folder that somebody sent: nothing of it may run
    here.mkdir(exist_ok=True)
    (here / "json.py").write_text("raise SystemExit('foreign code ran')")
    command = ["predict", file, str(pictures), "--out", str(out), "--on-unreadable", "skip"]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "zoo", *command, "--batch-size", "16", *more],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(pictures), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    _, err = process.communicate(timeout=240)
    assert process.returncode == status, err
    return err


def rows_of(out: Path) -> list[dict[str, str]]:
    found = []
    for path in sorted(out.glob("part-*")):
        with path.open(newline="") as file:
            found += list(csv.DictReader(file))
    return found


@pytest.fixture(scope="module")
def expected(exported: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "one.csv"
    ended(start(exported, pictures, out))
    assert len(rows_of(out)) == IMAGES
    return out


def processes(pictures: Path, name: str = "") -> list[int]:
    """Those of our clusters whose title begins so: Ray's workers say what they are doing."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            title = (place / "cmdline").read_bytes().decode(errors="replace")
            ours = str(pictures).encode() in (place / "environ").read_bytes()
        except OSError:
            continue
        if ours and title.startswith(name):
            found.append(int(place.name))
    return found


def until(
    found: Callable[[], object], run: subprocess.Popen[str] | None = None, seconds: float = 200
) -> object:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not come"
        assert run is None or run.poll() is None, run.communicate()
        time.sleep(0.05)
    return value


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds Ray's workers in /proc")
def test_an_actor_a_worker_and_a_decoder_die_and_the_rows_are_those_of_one_process(
    exported: Path, pictures: Path, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    engine = ("--engine", "ray", "--actors", "2")
    run = start(exported, pictures, out, *engine, BOOM="1", PAUSE="0.02")
    until(lambda: list(out.glob("part-*")), run)
    for name in ("ray::RowActor", "ray::prepare"):
        os.kill(until(lambda name=name: processes(pictures, name), run)[0], signal.SIGKILL)  # type: ignore[index]
    ended(run)
    found, true = rows_of(out), rows_of(expected)
    assert "ended the process that decodes it" in found[205]["error"]
    assert "not an image" in true[205]["error"]
    found[205]["error"] = true[205]["error"]
    assert found == true
    assert sum(1 for row in found if row["error"]) == 121
    one, ray = (json.loads((place / "_provenance.json").read_text()) for place in (expected, out))
    assert len(ray["result"]["actors"]) == 3  # two, and the one that took over
    assert {actor["runs_on"]["provider"] for actor in ray["result"]["actors"]} == {
        one["runs_on"]["provider"]
    }
    until(lambda: not processes(pictures))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds Ray's workers in /proc")
def test_a_driver_that_is_killed_leaves_nothing_running_and_is_continued(
    exported: Path, pictures: Path, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    engine = ("--engine", "ray", "--actors", "2")
    run = start(exported, pictures, out, *engine, PAUSE="0.02")
    until(lambda: len(list(out.glob("part-*"))) >= 2, run)
    run.kill()
    run.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 0 < len(kept) < IMAGES // ROWS
    until(lambda: not processes(pictures))
    notes = ended(start(exported, pictures, out, *engine, "--resume"))
    assert "rows in" in notes
    assert {line[:6] for line in notes.splitlines()} == {"note: "}, notes  # nothing of Ray's own
    for path in sorted(expected.glob("part-*")):
        assert (out / path.name).read_bytes() == path.read_bytes()
        assert kept.get(path.name, 0) in (0, (out / path.name).stat().st_mtime_ns)


def node(cpus: float, gpus: float = 0) -> dict[str, object]:
    return {"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}}


@pytest.mark.parametrize(
    ("given", "nodes", "expected"),
    [
        ({}, [node(8)], (4, 4)),
        ({"actors": 3}, [node(4)], (3, 1)),
        ({"threads": 3}, [node(4), node(4)], (1, 5)),
        ({"gpus_per_actor": 1}, [node(8, 2), node(4)], (2, 10)),
        ({"gpus_per_actor": 0.5, "actors": 3}, [node(8, 2)], (3, 5)),
    ],
)
def test_actors_leave_room_for_decoders(
    given: dict[str, float], nodes: list[dict[str, object]], expected: tuple[int, int]
) -> None:
    assert RayEngine(lambda: None, **given)._places(nodes) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "nodes"),
    [
        ({"actors": 4}, [node(4)]),
        ({}, [node(1)]),
        ({"threads": 3, "actors": 2}, [node(2), node(2), node(4)]),
        ({"gpus_per_actor": 1}, [node(8)]),
        ({"actors": 1}, [node(8) | {"Alive": False}]),
    ],
)
def test_a_cluster_that_would_wait_for_ever_is_refused_with_the_numbers(
    given: dict[str, float], nodes: list[dict[str, object]]
) -> None:
    with pytest.raises(ResourceError, match=r"logical CPUs; the cluster has \d+") as caught:
        RayEngine(lambda: None, **given)._places(nodes)  # type: ignore[arg-type]
    assert caught.value.code == "cluster"


def test_the_command_refuses_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: object) -> Iterator[None]:
        raise AssertionError("started")

    monkeypatch.setattr(ray_engine, "_cluster", start)
    monkeypatch.setattr(ray_engine, "available_cores", lambda: 4)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    command = ["predict", "convit_nano", str(tmp_path), "--engine", "ray"]

    def status(*more: str) -> int:
        with pytest.raises(SystemExit) as stopped:
            main([*command, *more])
        return int(stopped.value.code or 0)

    out = str(tmp_path / "rows.csv")
    assert status("--out", out, "--actors", "4") == 6
    assert "need 5 logical CPUs; the cluster has 4" in capsys.readouterr().err
    assert status() == 2
    assert status("--out", out, "--untrusted") == 2
    assert status("--out", out, "--actors", "2", "--engine", "process") == 2
    assert not Path(out).exists()


def test_actors_that_differ_are_an_error() -> None:
    def actor(node: str, **values: str) -> object:
        return SimpleNamespace(node=node, same_everywhere=values)

    ray_engine._check_same([actor("a", provider="cpu"), actor("b", provider="cpu")])  # type: ignore[list-item]
    with pytest.raises(ProviderError, match="provider is cpu on node a and cuda on b") as caught:
        ray_engine._check_same([actor("a", provider="cpu"), actor("b", provider="cuda")])  # type: ignore[list-item]
    assert (caught.value.code, caught.value.exit_code) == ("mixed", 7)


def test_an_error_in_an_actor_is_raised_as_ours_or_as_it_is() -> None:
    import ray

    def failed(cause: Exception) -> None:
        with ray_engine._own_errors():
            raise ray.exceptions.RayTaskError("part", "where it was raised", cause)

    with pytest.raises(ProviderError, match="no such provider"):
        failed(ProviderError("no such provider"))
    with pytest.raises(ray.exceptions.RayTaskError, match="where it was raised"):
        failed(ValueError("another"))
