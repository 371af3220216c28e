"""What is given to an analysis is used, or not taken: nothing is dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zoo.cli import cli

UNUSED = {
    "gates": ("--part test", "--images 4", "--batch-size 2", "--fast", "--seed 3",
              "--on-unreadable skip"),
    "attention": ("--images 4", "--batch-size 2", "--fast", "--seed 3"),
    "buildup": ("--init 4", "--weights nowhere"),
}  # fmt: skip
REFUSED = [
    *((f"{verb} {words}", f"No such option '{words.split()[0]}'")
      for verb, options in UNUSED.items() for words in options),
    ("gates --grid -3", "-3 is not in the range x>=1"),
    ("hessian --density-steps -1", "-1 is not in the range x>=0"),
    ("buildup --set stages=3", "--set stages=... has no effect: --plan says the stages"),
    *((f"robustness --data cifar10-c:none {words}",
       f"{words.split()[0]} would have no effect with --data cifar10-c")
      for words in ("--part train", "--seed 5", "--on-unreadable skip", "--seed 0")),
]  # fmt: skip


def _run(words: str, out: Path) -> dict[str, Any]:
    command = ["analyze", *words.split(), "--out", str(out), "--json"]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_what_would_have_no_effect_is_refused(words: str, message: str, tmp_path: Path) -> None:
    verb, *options = words.split()
    data = [] if "--data" in options else ["--data", "digits"]
    command = ["analyze", verb, "alternet_nano", *options, *data, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "keys"), [("", 64), ("--grid 3", 9), ("--data digits", 64)])
def test_gates_need_no_data(words: str, keys: int, tmp_path: Path) -> None:
    [found] = _run(f"gates convit_nano {words}", tmp_path)["results"]
    assert {len(head) * len(head[0]) for head in found["layers"][0]["position"]} == {keys}


@pytest.mark.parametrize(
    ("words", "images", "largest"),
    [
        ("--fast --batch-size 20 --batches 1 --clean", 20, 20),
        ("--fast --batches 1 --clean", 16, 16),
        ("--images 100 --batches 1 --batch-size 3 --clean", 3, 3),
        ("--images 3 --batches 2 --batch-size 2", 2, 2),  # an odd one is left out of augmentation
    ],
)
def test_a_hessian_counts_the_images_that_it_looks_at(
    words: str, images: int, largest: int, tmp_path: Path
) -> None:
    few = "--top 1 --max-iterations 2 --density-steps 0"
    found = _run(f"hessian resnet_nano --data digits {few} {words}", tmp_path)
    assert found["images"] == images
    assert found["results"][0]["batch_size"] == largest


def test_a_landscape_counts_the_images_that_it_looks_at(tmp_path: Path) -> None:
    few = "--grid 3 --images 3 --batch-size 2"
    assert _run(f"landscape resnet_nano --data digits {few}", tmp_path)["images"] == 2


def test_a_build_up_trains_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []

    def stop(job: Any, *_: object) -> None:
        jobs.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.training.build_up._trained", stop)
    words = ["buildup", "alternet_nano", "--set", "window_size=2", "--on-unreadable", "skip"]
    words += ["--data", "digits", "--images", "4", "--seed", "3", "--out", str(tmp_path)]
    CliRunner().invoke(cli, ["analyze", *words])
    assert jobs[0].config == {"window_size": 2, "stages": ("CC", "CC", "CCCC")}
    assert (jobs[0].on_unreadable, jobs[0].recipe.seed) == ("skip", 3)
