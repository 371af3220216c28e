"""Finished work is replaced only when it is asked for, and then as a whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import zoo
from export import ExportSpec, directory, export_model, verify_directory, write_bundle, writer
from zoo.errors import ConfigError, ParityError, ResourceError
from zoo.files.manifest import check_files, make_manifest, read_manifest
from zoo.training.job import Job
from zoo.training.recipe import scaled
from zoo.training.recipes import get_recipe
from zoo.training.run import train_model

TINY = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
TINY |= {"local_up_to_layer": 1}


def _model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return zoo.create_model("convit_nano", **TINY).eval()


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with a float16 file."""
    out = tmp_path_factory.mktemp("overwriting") / "out"
    export_model(_model(), out, ("onnx",), precisions=("float16",))
    return out


@pytest.fixture
def finished(exported: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    import shutil

    return Path(shutil.copytree(exported, tmp_path / "work" / "out"))


def _refused(out: Path, code: str, **options: object) -> ConfigError:
    before = _tree(out)
    with pytest.raises(ConfigError) as caught:
        export_model(options.pop("model", _model()), out, ("onnx",), **options)
    assert caught.value.code == code
    assert _tree(out) == before
    assert os.listdir(out.parent) == ["out"]
    return caught.value


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "work" / "out"
    out.mkdir(parents=True)
    (out / "config.json").write_text("precious")
    assert "no manifest.json" in str(_refused(out, "out"))
    assert "no manifest.json" in str(_refused(out, "out", overwrite=True))


def test_another_model_is_replaced_only_on_request(finished: Path) -> None:
    error = _refused(finished, "finished", model=_model(1), precisions=("float16",))
    assert "holds convit_nano already" in str(error)
    assert "--overwrite" in str(error)
    export_model(_model(1), finished, ("onnx",), overwrite=True)
    check_files(finished, read_manifest(finished))
    assert not (finished / "onnx" / "model_fp16.onnx").exists()
    assert os.listdir(finished.parent) == ["out"]


def test_files_that_an_export_would_lose_are_named(finished: Path) -> None:
    assert "onnx/model_fp16.onnx" in str(_refused(finished, "finished"))


def test_the_same_export_may_be_written_again(finished: Path) -> None:
    before = _tree(finished)
    (finished / "notes.txt").write_text("mine")
    export_model(_model(), finished, ("onnx",), precisions=("float16",))
    assert _tree(finished) == {**before, "notes.txt": b"mine"}


def test_a_bundle_of_another_model_is_replaced_only_on_request(finished: Path) -> None:
    before = _tree(finished)
    with pytest.raises(ConfigError) as caught:
        write_bundle(_model(1), finished, version="1.0.0", licence="mit")
    assert caught.value.code == "finished"
    assert _tree(finished) == before


def test_a_bundle_takes_the_graph_of_an_earlier_export_of_the_same_weights(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"version": "1.0.0", "licence": "mit", "formats": ("onnx",)}
    write_bundle(_model(), tmp_path / "anew", **how)
    monkeypatch.setattr(writer, "translate", _never)
    write_bundle(_model(), tmp_path / "taken", exported=exported, **how)
    anew, taken = _tree(tmp_path / "anew"), _tree(tmp_path / "taken")
    assert anew.keys() == taken.keys()
    assert {path for path in anew if anew[path] != taken[path]} <= {"provenance.json"}


@pytest.mark.parametrize("why", ["other weights", "other size", "another's", "nothing there"])
def test_a_bundle_takes_no_graph_but_that_which_it_would_make(
    why: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ExportSpec(img_size=(24, 24)) if why == "other size" else None
    model = _model(1 if why == "other weights" else 0)
    place = tmp_path if why == "nothing there" else exported
    if why == "another's":
        monkeypatch.setattr("export.formats.made_before.known_digests", frozenset)
    monkeypatch.setattr(writer, "translate", _never)
    with pytest.raises(RuntimeError, match="translated again"):
        write_bundle(
            model, tmp_path / "out", exported=place, formats=("onnx",), precisions=(), spec=spec
        )


def _never(*args: object) -> None:
    raise RuntimeError("translated again")


def _job(seed: int, **options: object) -> Job:
    recipe = scaled(get_recipe("digits"), epochs=1, batch_size=64, seed=seed)
    return Job(
        model="convit_nano", data="digits", fraction=0.1, config=TINY, img_size=16, recipe=recipe,
        **options,
    )  # fmt: skip


def test_a_finished_run_is_replaced_only_on_request_and_an_export_keeps_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_model(_job(0), out, report=False)
    before = _tree(out)
    with pytest.raises(ConfigError, match=r"holds convit_nano\.digits already") as caught:
        train_model(_job(1), out, report=False)
    assert caught.value.code == "finished"
    assert _tree(out) == before
    export_model(zoo.create_model(str(out), pretrained=True), out, ("onnx",))
    assert {"metrics.json", "onnx/model.onnx"} <= set(read_manifest(out).paths)
    assert (out / "metrics.json").read_bytes() == before["metrics.json"]
    train_model(_job(1), out, report=False, overwrite=True)
    assert sorted(_tree(out)) == sorted(before)
    check_files(out, read_manifest(out))


def test_two_exports_into_one_place_leave_one_of_them_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_wrote = threading.Barrier(2)
    sign = directory._sign

    def wait(*args: object) -> object:
        found = sign(*args)
        both_wrote.wait(timeout=120)
        return found

    monkeypatch.setattr("export.directory._sign", wait)
    monkeypatch.setattr("export.directory.ArtefactWriter", _Nothing)
    monkeypatch.setattr("export.directory.write_test_data", lambda *_: None)
    models = [_model(0), _model(1)]
    threads = [
        threading.Thread(target=export_model, args=(model, tmp_path / "out", ["onnx"]), daemon=True)
        for model in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_files(tmp_path / "out", read_manifest(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["out"]


class _Nothing:
    """A writer of an empty file, whose report passes."""

    def __init__(self, model: object, cfg: object, spec: object, folder: Path, *_: object) -> None:
        self.cfg, self.references = cfg, type("References", (), {"by_size": {}})()
        self.folder = folder

    def write(self, *_: object) -> None:
        (self.folder / "onnx").mkdir()
        (self.folder / "onnx" / "model.onnx").touch()

    def report(self) -> object:
        return _Report()


class _Report:
    drift_allowed = False

    def __bool__(self) -> bool:
        return True

    def to_json(self) -> str:
        return "{}\n"


def test_an_export_that_fails_while_it_takes_its_place_leaves_the_old_one(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _tree(finished)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.files.staging.exchange", full)
    with pytest.raises(ResourceError) as caught:
        export_model(_model(1), finished, ("onnx",), overwrite=True)
    assert caught.value.code == "disk_full"
    assert _tree(finished) == before
    assert os.listdir(finished.parent) == ["out"]


def test_a_model_that_is_slightly_off_fails_against_the_stored_reference(finished: Path) -> None:
    """One part in a thousand of the logits' scale, with digests that are right."""
    stored = sorted(finished.glob("test_data_set_*/output_0.pb"))[0]
    tensor = onnx.TensorProto()
    tensor.ParseFromString(stored.read_bytes())
    values = numpy_helper.to_array(tensor).astype(np.float64)
    changed = numpy_helper.from_array(values * (1 + 1e-6) + 1e-6, tensor.name)
    stored.write_bytes(changed.SerializeToString())
    old = read_manifest(finished)
    new = make_manifest(finished, old.paths, old.name, old.version, old.architecture_version)
    (finished / "manifest.json").write_text(new.to_json())
    with pytest.raises(ParityError, match="the stored reference differs from"):
        verify_directory(finished)
