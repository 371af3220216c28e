"""Whoever is killed, and whenever: the old directory or the new one is whole, and the next run
sweeps what was left.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

import zoo
from export.directory import export_model
from export.publishing.bundle import write_bundle
from zoo.evaluation.batch import parts, rows, stream
from zoo.evaluation.batch.job import write_rows
from zoo.evaluation.batch.sources import open_source
from zoo.evaluation.embeddings import write_embeddings
from zoo.files.fetch import fetch_model, update_pin
from zoo.files.local import sha256_bytes, write_bytes
from zoo.files.manifest import check_files, read_manifest, seal
from zoo.files.mirror import Ref, write_references
from zoo.files.pins import read_pins
from zoo.files.staging import staged_directory
from zoo.training.job import Job
from zoo.training.recipe import scaled
from zoo.training.recipes import get_recipe
from zoo.training.run import train_model

from .kill_driver import kill_everywhere, run_killed, run_whole, strays_below
from .test_staging import _write

SCAN = Path(__file__).resolve().parents[2] / "examples" / "digit_3.png"
TINY = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}


def _model(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return zoo.create_model("convit_nano", **TINY, local_up_to_layer=1).eval()


def _whole(place: Path) -> str:
    """The digest of a directory's weights, after all its files were checked."""
    manifest = read_manifest(place)
    check_files(place, manifest)
    listed = {*manifest.paths, "manifest.json", "provenance.json", "checkpoint.safetensors"}
    present = {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}
    unknown = {p for p in present - listed if not p.rpartition("/")[2].startswith(".convattn-")}
    assert not unknown, f"{unknown} belong to nothing"
    return manifest.digest("config.json") + manifest.digest("model.safetensors")


def _kill_a_replacing_writer(
    root: Path, old: Callable[[Path], object], new: Callable[[Path], object], step: int = 1
) -> int:
    """Kill `new` while it replaces what `old` wrote. Returns: the number of kills."""
    kept, place = root / "kept", root / "work" / "out"
    run_whole(lambda: old(kept), root)
    before = _whole(kept)
    place.parent.mkdir()
    shutil.copytree(kept, place)
    seen, kills = set(), 0
    for _ in kill_everywhere(lambda: new(place), place.parent, step):
        kills += 1
        seen.add(_whole(place))
        assert len(strays_below(place.parent)) <= 2, "a stray for every run"
        shutil.rmtree(place)
        shutil.copytree(kept, place)
    after = _whole(place)
    assert before != after
    assert seen <= {before, after}
    assert seen == {before, after} or step > 1  # also after the exchange it was killed
    assert strays_below(place.parent) == []  # the run that came through swept the last one
    assert os.listdir(place.parent) == ["out"]
    return kills


def _simple(text: str) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        with staged_directory(place, replace=True) as folder:
            _write(folder, text, ("model.safetensors",))

    return write


def test_a_replaced_directory_is_whole_at_every_kill(tmp_path, record_property):
    kills = _kill_a_replacing_writer(tmp_path, _simple("old"), _simple("new"))
    record_property("kills", kills)
    assert kills >= 20


def test_a_new_directory_is_whole_or_absent_at_every_kill(tmp_path, record_property):
    place = tmp_path / "work" / "out"
    place.parent.mkdir()
    kills = 0
    for _ in kill_everywhere(lambda: _simple("new")(place), place.parent):
        kills += 1
        if place.exists():
            _whole(place)
            shutil.rmtree(place)
    record_property("kills", kills)
    assert os.listdir(place.parent) == ["out"]


def test_two_renames_leave_nothing_that_the_next_run_does_not_mend(
    tmp_path, monkeypatch, record_property
):
    monkeypatch.setattr("sys.platform", "darwin")  # no exchange there
    place = tmp_path / "work" / "out"
    _simple("old")(place)
    before, kills = _whole(place), 0
    for _ in kill_everywhere(lambda: _simple("new")(place), place.parent):
        kills += 1
        if not place.exists():  # between the renames: the next writer, even one that fails, mends
            with pytest.raises(RuntimeError):
                _fail(place)
        assert place.exists()
        if _whole(place) != before:
            shutil.rmtree(place)
            _simple("old")(place)
    record_property("kills", kills)
    assert os.listdir(place.parent) == ["out"]


def _fail(place: Path) -> None:
    with staged_directory(place, replace=True):
        raise RuntimeError


@pytest.mark.slow
def test_export_is_whole_at_every_kill(tmp_path, record_property):
    first, second = _model(0), _model(1)
    kills = _kill_a_replacing_writer(
        tmp_path,
        lambda place: export_model(first, place, ("onnx",)),
        lambda place: export_model(second, place, ("onnx",), overwrite=True),
    )
    record_property("kills", kills)
    assert kills >= 45


@pytest.mark.slow
def test_bundle_is_whole_at_every_kill(tmp_path, record_property):
    first, second = _model(0), _model(1)
    options = {"version": "1.0.0", "licence": "mit", "formats": ("onnx",), "precisions": ()}
    kills = _kill_a_replacing_writer(
        tmp_path,
        lambda place: write_bundle(first, place, **options),
        lambda place: write_bundle(second, place, **options, overwrite=True),
    )
    record_property("kills", kills)
    assert kills >= 75


@pytest.mark.slow
def test_import_is_whole_at_every_kill(tmp_path, record_property):
    for seed in (0, 1):
        torch.save(_model(seed).state_dict(), tmp_path / f"{seed}.pth")

    def load(seed: int, place: Path) -> None:
        keywords = {**TINY, "local_up_to_layer": 1}
        zoo.import_checkpoint(
            tmp_path / f"{seed}.pth", "convit_nano", place, overwrite=True, **keywords
        )

    kills = _kill_a_replacing_writer(
        tmp_path, lambda place: load(0, place), lambda place: load(1, place)
    )
    record_property("kills", kills)
    assert kills >= 20


@pytest.mark.slow
def test_training_over_a_finished_run_is_whole_at_every_kill(tmp_path, record_property):
    context = multiprocessing.get_context("spawn")  # autograd's threads do not survive a fork
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        kills = pool.submit(_kill_trainings, tmp_path).result()
    record_property("kills", kills)
    assert kills >= 20


def _kill_trainings(root: Path) -> int:
    recipe = scaled(get_recipe("digits"), epochs=1, batch_size=64)

    def train(seed: int, place: Path) -> None:
        config = {**TINY, "local_up_to_layer": 1}
        job = Job(
            model="convit_nano", data="digits", fraction=0.5, config=config, img_size=16,
            recipe=scaled(recipe, seed=seed),
        )  # fmt: skip
        resume = (place / "checkpoint.safetensors").exists()
        train_model(job, place, report=False, overwrite=True, resume=resume)

    return _kill_a_replacing_writer(
        root, lambda place: train(0, place), lambda place: train(1, place)
    )


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Path:
    """A mirror with one repository of three files."""
    folder, commit = tmp_path / "mirror", "a" * 40
    contents = {"model.safetensors": b"w" * 5000, "config.json": b"{}"}
    entries = [
        {"path": path, "size_bytes": len(data), "sha256": sha256_bytes(data)}
        for path, data in contents.items()
    ]
    manifest = {"format_version": 1, "name": "m", "version": "1.0.0", "architecture_version": 1}
    contents["manifest.json"] = seal({**manifest, "files": entries}).encode()
    for path, data in contents.items():
        write_bytes(folder / "org/name/resolve" / commit / path, data)
    digests = {path: (len(data), sha256_bytes(data)) for path, data in contents.items()}
    write_references(folder, Ref("org/name", commit, digests), ("main",))
    monkeypatch.setenv("CONVATTN_MIRROR", str(folder))
    monkeypatch.setenv("CONVATTN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return folder


def test_a_mirror_is_usable_after_every_kill_of_fetch(tmp_path, mirror, record_property):
    target = tmp_path / "copy"
    target.mkdir()
    kills = 0
    for _ in kill_everywhere(lambda: fetch_model("hf-hub:org/name", target, True), target):
        kills += 1
        references = target / "org/name/refs/main.json"
        if references.is_file():  # it comes last, and what it promises is there
            ref = Ref.from_json(references.read_bytes(), "main")
            for path, (size, digest) in ref.files.items():
                data = (target / "org/name/resolve" / ref.commit / path).read_bytes()
                assert (len(data), sha256_bytes(data)) == (size, digest)
    record_property("kills", kills)
    assert kills >= 20
    assert strays_below(target) == []


def test_pins_are_whole_after_every_kill(tmp_path, mirror, record_property):
    home = tmp_path / "home"
    update_pin("org/name", "config.json")
    kills = 0
    for _ in kill_everywhere(lambda: update_pin("org/name"), home):
        kills += 1
        assert ("org/name", "config.json") in read_pins()
    record_property("kills", kills)
    assert len(read_pins()) == 2
    assert strays_below(home) == []


def test_features_are_whole_or_absent_after_every_kill(tmp_path, record_property):
    out = tmp_path / "work" / "f.npz"
    out.parent.mkdir()
    torch.manual_seed(0)
    model = zoo.create_model("convit_nano", **TINY, local_up_to_layer=1, num_classes=0)
    names = [SCAN.name] * 3
    kills = 0
    for _ in kill_everywhere(
        lambda: write_embeddings(model, SCAN.parent, names, out, batch_size=2), out.parent
    ):
        kills += 1
        assert not out.exists() or len(zoo_load(out)) == 3
    record_property("kills", kills)
    assert strays_below(out.parent) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_go_on_after_every_kill(tmp_path, monkeypatch, record_property, kind):
    """Of three parts those that are whole stay; the run that goes on ends with the same bytes."""
    for module in (parts, rows, stream):
        monkeypatch.setattr(module, "PART_ROWS", 4)
    torch.manual_seed(0)
    model = zoo.create_model("convit_nano", **TINY, local_up_to_layer=1).eval()
    predictor = zoo.Predictor.from_model(model)
    source = open_source(SCAN.parent)
    out, whole = tmp_path / "work" / f"rows.{kind}", tmp_path / f"rows.{kind}"
    out.parent.mkdir()

    def write(place: Path, resume: bool) -> None:
        write_rows(predictor, source, place, resume=resume, batch_size=2, workers=1)

    def content(place: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in place.glob("part-*")}

    run_whole(lambda: write(whole, False), tmp_path)
    assert len(content(whole)) == 3
    kills = 0
    for _ in kill_everywhere(lambda: write(out, False), out.parent):
        kills += 1
        kept = content(out)
        assert kept.items() <= content(whole).items()
        assert not run_killed(lambda: write(out, out.exists()), tmp_path, 10**9)
        assert content(out) == content(whole)
        shutil.rmtree(out)
    record_property("kills", kills)
    assert kills >= 15
    assert content(out) == content(whole)
    assert strays_below(out.parent) == []


def zoo_load(path: Path):
    import numpy as np

    with np.load(path) as file:
        return file["features"]


def test_the_driver_kills_before_the_operation_that_it_was_told(tmp_path):
    def work() -> None:
        (tmp_path / "a").write_text("a")
        (tmp_path / "b").write_text("b")

    assert run_killed(work, tmp_path, 2)
    assert os.listdir(tmp_path) == ["a"]
    assert not run_killed(work, tmp_path, 3)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
