"""verify: digests, parity again, and providers that did or did not run the graph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import export
import zoo
import zoo.errors
import zoo.factory.create
from export.parity.compare import error_limit
from export.parity.inputs import make_inputs
from export.runtime.opening import open_onnx
from export.spec import ExportSpec
from zoo.errors import (
    ConfigError,
    IntegrityError,
    ParityError,
    ProviderError,
    UnknownModelError,
    ZooError,
)
from zoo.files.manifest import make_manifest, read_manifest, seal


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    return out


def test_a_fresh_export_verifies(exported: Path) -> None:
    found = export.verify_directory(exported)
    assert found.reference == "recomputed"
    assert found.report
    files = {row.file for row in found.report.rows}
    assert files == {"eager", "onnx/model.onnx", "model.pt"}
    proof = found.report.attestation["onnx/model.onnx"]
    assert proof["providers"] == ["CPUExecutionProvider"]
    assert set(proof["nodes"]) == {"CPUExecutionProvider"}
    assert proof["elsewhere"] == []


def test_the_file_that_takes_images_is_run_again(tmp_path: Path) -> None:
    model, spec = zoo.create_model("convit_nano", pretrained=True), ExportSpec(batches=(1,))
    export.export_model(model, tmp_path, ["onnx"], spec, extras=["preprocessing"])
    found = export.verify_directory(tmp_path, spec=spec, levels=("all",)).report
    assert found
    rows = [row for row in found.rows if row.file == "onnx/model_preprocessing.onnx"]
    assert {row.size for row in rows} == {(37, 53), (97, 61), (224, 224), (301, 401)}
    assert "not_run" not in found.attestation["onnx/model_preprocessing.onnx"]


def test_the_report_is_json_with_every_row(exported: Path) -> None:
    stored = json.loads((exported / "parity.json").read_text())
    assert stored["passed"] is True
    assert len(stored["rows"]) == 2 * (3 * 4 + 1)
    for row in stored["rows"]:
        assert row["max_abs_error"] <= row["limit"]
        assert row["top1_agreement"] == 1.0


@pytest.mark.parametrize(
    "name", ["onnx/model.onnx", "model.safetensors", "config.json", "model.pt"]
)
def test_one_flipped_bit_anywhere_is_found(copied: Path, name: str) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 4
    (copied / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=f"{name} has SHA-256"):
        export.verify_directory(copied)


def test_a_missing_and_a_truncated_file_are_found(copied: Path) -> None:
    (copied / "model.pt").write_bytes((copied / "model.pt").read_bytes()[:100])
    with pytest.raises(IntegrityError, match=r"model\.pt has 100 bytes"):
        export.verify_directory(copied)
    (copied / "model.pt").unlink()
    with pytest.raises(IntegrityError, match=r"model\.pt is missing"):
        export.verify_directory(copied)


def _rewrite_manifest(folder: Path) -> None:
    old = read_manifest(folder)
    new = make_manifest(folder, old.paths, old.name, old.version, old.architecture_version)
    (folder / "manifest.json").write_text(new.to_json())


def test_a_graph_of_other_weights_fails_parity(copied: Path, tmp_path: Path) -> None:
    other = zoo.factory.create.create_random("convit_nano", 1)
    export.export_model(other, tmp_path / "other", formats=["onnx"])
    shutil.copy(tmp_path / "other" / "onnx" / "model.onnx", copied / "onnx" / "model.onnx")
    _rewrite_manifest(copied)
    with pytest.raises(ParityError, match=r"onnx/model\.onnx differs"):
        export.verify_directory(copied)


def test_a_reference_of_other_weights_is_found(copied: Path, tmp_path: Path) -> None:
    other = zoo.factory.create.create_random("convit_nano", 1)
    export.export_model(other, tmp_path / "other", formats=["onnx"])
    shutil.copytree(
        tmp_path / "other" / "test_data_set_0", copied / "test_data_set_0", dirs_exist_ok=True
    )
    _rewrite_manifest(copied)
    with pytest.raises(ParityError, match="mixes two models"):
        export.verify_directory(copied)


def test_a_reference_that_is_a_millionth_off_is_found(copied: Path) -> None:
    file = copied / "test_data_set_0" / "output_0.pb"
    stored = onnx.load_tensor(file)
    logits = onnx.numpy_helper.to_array(stored) * (1 + 1e-6)
    onnx.save_tensor(onnx.numpy_helper.from_array(logits, stored.name), file)
    _rewrite_manifest(copied)
    with pytest.raises(ParityError, match=r"differs from model\.safetensors by 1\.0e-06"):
        export.verify_directory(copied)


@pytest.mark.parametrize("entry", ["../outside", "/etc/hostname", "a/../../b", ""])
def test_a_manifest_that_leaves_its_directory_is_refused(copied: Path, entry: str) -> None:
    content = json.loads((copied / "manifest.json").read_text())
    content["files"][0]["path"] = entry
    (copied / "manifest.json").write_text(seal(content))
    with pytest.raises(ZooError, match="leaves the directory"):
        export.verify_directory(copied)


def test_a_directory_without_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"no manifest\.json"):
        export.verify_directory(tmp_path)


@pytest.mark.skipif(_has_cuda(), reason="a GPU is here")
def test_a_file_that_no_manifest_lists_is_not_called_verified(copied: Path, tmp_path: Path) -> None:
    lone, among = tmp_path / "model.onnx", copied / "onnx" / "theirs.onnx"
    for place in (lone, among):
        shutil.copy(copied / "onnx" / "model.onnx", place)
        with pytest.raises(UnknownModelError, match=f"{place.name}.* no manifest.json lists it"):
            export.verify_directory(place)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_did_not_run_is_an_error(exported: Path, provider: str) -> None:
    with pytest.raises(ProviderError, match="did not run") as caught:
        export.verify_directory(exported, provider)
    assert caught.value.exit_code == 7
    assert "site-packages" not in str(caught.value)


def test_unknown_providers_are_named(exported: Path) -> None:
    with pytest.raises(ConfigError, match="cpu, cuda, tensorrt, openvino"):
        open_onnx(exported / "onnx" / "model.onnx", "rocm")


def test_the_limit_is_a_multiple_of_eager_error_with_a_ceiling() -> None:
    spec = ExportSpec()
    cpu = "CPUExecutionProvider"
    assert error_limit(1e-7, 0.5, cpu, False, spec) == pytest.approx(4e-7 + 1e-6)
    assert error_limit(1e-3, 10.0, cpu, False, spec) == pytest.approx(1e-4)
    assert error_limit(0.0, 1.0, "CUDAExecutionProvider", False, spec) == 1e-4
    assert error_limit(0.0, 1.0, "CUDAExecutionProvider", True, spec) == 5e-3


def test_not_a_number_never_passes() -> None:
    from export.parity.compare import check_parity
    from export.parity.reference import Reference

    inputs = make_inputs(zoo.InputSpec(size=(8, 8)))
    reference = Reference(inputs, np.zeros((10, 3)), np.zeros(10))
    rows = check_parity(
        lambda batch: np.full((len(batch), 3), np.nan, np.float32),
        reference,
        "f",
        "cpu",
        ExportSpec(),
    )
    report = export.ParityReport("n", "", "", rows)
    assert not report
    assert "NaN" not in report.to_json()


def test_a_report_without_rows_is_not_a_pass() -> None:
    assert not export.ParityReport("n", "", "", ())


def test_inputs_are_noise_real_constant_and_extreme() -> None:
    inputs = make_inputs(zoo.InputSpec(size=(16, 16)))
    assert inputs.batch.shape == (10, 3, 16, 16)
    assert inputs.batch.dtype == np.float32
    constant = inputs.batch[inputs.kinds.index("constant")]
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (zoo.InputSpec().mean, zoo.InputSpec().std))
    assert np.allclose(constant * std + mean, 0.5, atol=1e-6)  # mid grey
    extreme = inputs.batch[inputs.kinds.index("extreme")] * std + mean
    assert np.allclose(extreme, extreme.round(), atol=1e-6)
    assert set(np.unique(extreme.round())) == {0.0, 1.0}  # black and white
    again = make_inputs(zoo.InputSpec(size=(16, 16)))
    assert np.array_equal(inputs.batch, again.batch)


def test_a_training_run_verifies_before_anything_is_exported(tiny_run: Path) -> None:
    found = export.verify_directory(tiny_run)
    assert found.report is None
    (tiny_run / "model.safetensors").write_bytes(b"x")
    with pytest.raises(IntegrityError):
        export.verify_directory(tiny_run)
