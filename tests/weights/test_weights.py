"""Reading weights: digests, kinds of files, strict loading, adaptation."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

import zoo
from zoo.errors import (
    IncompatibleWeightsError,
    IntegrityError,
    NotFoundError,
    NoWeightsError,
    WeightsFileError,
    WeightsMismatchError,
)
from zoo.factory.create import create_from_file
from zoo.factory.resolve import check_architecture
from zoo.files.fetch import BUNDLED, fetch
from zoo.files.pins import verify_bytes
from zoo.weights.loading import load_state
from zoo.weights.safetensors_file import check_finite, read_header, read_tensors, weights_bytes

NAMES = [
    name
    for name in zoo.list_models(pretrained=True)
    if getattr(zoo.get_record(name).selected, "bundled", "")
]


def _bytes() -> bytes:
    record = zoo.get_record("convit_nano").selected
    assert record is not None
    return (BUNDLED / record.bundled).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_bundled_weights_load_and_classify(name: str) -> None:
    model = zoo.create_model(name, pretrained=True)
    assert model.training, "models come back in training mode"
    cfg = model.pretrained_cfg
    record = zoo.get_record(name).selected
    assert record is not None
    assert cfg.name == f"{name}.{record.tag}"
    assert cfg.sha256 == record.sha256
    assert len(cfg.labels) == model.num_classes
    scan = Path(__file__).parents[2] / "examples" / "digit_3.png"
    assert zoo.Predictor.from_model(model)(scan).label == "3"


@pytest.mark.parametrize("name", NAMES)
def test_bundled_files_are_small_and_pinned(name: str) -> None:
    record = zoo.get_record(name).selected
    assert record is not None
    assert record.size_bytes <= 1_500_000
    assert len(fetch(record)) == record.size_bytes


def test_the_same_weights_give_the_bundled_bytes() -> None:
    assert weights_bytes(zoo.create_model("convit_nano", pretrained=True)) == _bytes()


def test_one_flipped_bit_is_found() -> None:
    record = zoo.get_record("convit_nano").selected
    data = bytearray(_bytes())
    data[-1] ^= 1
    with pytest.raises(IntegrityError, match="has SHA-256") as caught:
        verify_bytes(bytes(data), record)
    assert caught.value.code == "hash"
    assert caught.value.exit_code == 4


def test_a_truncated_pinned_file_says_both_sizes() -> None:
    record = zoo.get_record("convit_nano").selected
    with pytest.raises(IntegrityError, match=rf"has 1000 bytes, expected {record.size_bytes}"):
        verify_bytes(_bytes()[:1000], record)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"PK\x03\x04" + b"\0" * 60, "zip archive"),
        (b'{"error": "not found", "status": 404, "more": "words here"}', "JSON"),
        (b"\x80\x02}q\x00." + b"\0" * 60, "pickle"),
        (b"\x1f\x8b" + b"\0" * 60, "gzip"),
        (b"just some text that is not a model at all", "not a safetensors"),
    ],
)
def test_a_file_of_another_kind_is_named(content: bytes, kind: str) -> None:
    with pytest.raises(WeightsFileError, match=kind) as caught:
        read_tensors(content, "weights")
    assert caught.value.code == "wrong_kind"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_every_cut_is_a_typed_error(share: float) -> None:
    data = _bytes()
    with pytest.raises(IntegrityError, match=r"empty|cut short") as caught:
        read_tensors(data[: int(share * len(data))], "weights")
    assert caught.value.code == "truncated"


def _container(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


_ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
_CHANGES = (
    *({"extra": 1}, {"dtype": "F99"}, {"dtype": "F4"}, {"dtype": ["F32"]}, {"dtype": None}),
    *({"shape": shape} for shape in ([3], [1] * 1000, [True], [1.0], "1", None, [-1, -1])),
    *({"data_offsets": place} for place in ([0, 4, 4], [0.0, 4.0], [False, 4], [-4, 0], "04", 4)),
    {"shape": [10**30], "data_offsets": [0, 4 * 10**30]},
)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": {}}',
        b'{"a": 5}',
        b"{not json}",
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'.encode("utf-16-le"),
        b'{"a":' + b"[" * 100_000,
        {"a": _ONE, "__metadata__": {"a": 1}},
        {"a": _ONE, "__metadata__": ["text"]},
        *({"a": {**_ONE, **change}} for change in _CHANGES),
        *({name: _ONE} for name in ("../../x", "a\0", "a\nb", "a" * 300, "\u202ea", "", "\ud800")),
    ],
)
def test_malformed_headers_are_refused(header: object) -> None:
    with pytest.raises(WeightsFileError) as caught:
        read_tensors(_container(header, b"\0" * 4), "weights")
    assert caught.value.code in ("weights_file", "wrong_kind")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("side", [2**62, 2**64 - 1])
def test_empty_tensors_of_impossible_sides_are_refused(side: int) -> None:
    header = {"a": {"dtype": "F32", "shape": [0, side], "data_offsets": [0, 0]}}
    with pytest.raises(WeightsFileError, match="impossible shape"):
        read_tensors(_container(header), "weights")


def test_tensors_of_another_dtype_are_converted_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = zoo.create_model("convit_nano")
    state = model.state_dict()
    half = {**state, "norm.bias": state["norm.bias"].half(), "head.bias": state["head.bias"].half()}
    load_state(model, half, "weights")
    assert caplog.messages == ["weights: 2 tensors are converted from float16 to float32"]
    caplog.clear()
    load_state(model, state, "weights")
    assert not caplog.messages


def test_too_many_tensors_are_refused_before_parsing_them() -> None:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = {f"t{i}": entry for i in range(20_001)}
    with pytest.raises(WeightsFileError, match="20001 tensors") as caught:
        read_header(_container(header), "weights")
    assert caught.value.code == "limit"


@pytest.mark.parametrize("more", [0, 1])
def test_a_header_has_at_most_4_mib(more: int) -> None:
    header = b"{}".ljust((4 << 20) + more)
    if not more:
        assert read_header(_container(header), "weights") == {}
        return
    with pytest.raises(WeightsFileError, match="4194305 bytes; at most 4194304") as caught:
        read_header(_container(header), "weights")
    assert caught.value.code == "limit"


def test_integers_and_tensors_without_values_are_finite() -> None:
    check_finite({"a": torch.empty(2, device="meta"), "b": torch.ones(2, dtype=torch.int64)}, "x")
    huge = torch.full((4,), torch.finfo(torch.float32).max)  # their sum is infinite
    check_finite({"a": huge}, "x")
    with pytest.raises(WeightsFileError, match="2 of 3 values of a are not finite"):
        check_finite({"a": torch.tensor([1.0, torch.inf, torch.nan])}, "x")


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    import os

    path = tmp_path / "mödel 猫.safetensors"
    os.mkfifo(path)
    with pytest.raises(WeightsFileError, match=r"mödel 猫\.safetensors' is not a regular file"):
        create_from_file("convit_nano", str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No such file"):
        create_from_file("convit_nano", str(tmp_path / "none.safetensors"))


def test_missing_unexpected_and_misshapen_tensors_are_listed() -> None:
    model = zoo.create_model("convit_nano")
    tensors = dict(model.state_dict())
    tensors["extra.weight"] = torch.zeros(1)
    del tensors["norm.bias"]
    tensors["head.weight"] = torch.zeros(3, 96)
    with pytest.raises(WeightsMismatchError) as caught:
        load_state(model, tensors, "weights")
    text = str(caught.value)
    for part in ("missing: norm.bias", "unexpected: extra.weight", "head.weight (3, 96) instead"):
        assert part in text


def test_a_refused_state_dict_leaves_the_model_as_it_was() -> None:
    model = zoo.create_model("convit_nano")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    tensors = {key: value + 1 for key, value in before.items()}
    del tensors["norm.bias"]
    with pytest.raises(WeightsMismatchError):
        load_state(model, tensors, "weights")
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_integer_tensors_do_not_fit_float_parameters() -> None:
    model = zoo.create_model("convit_nano")
    tensors = {**model.state_dict(), "norm.bias": torch.zeros(96, dtype=torch.int64)}
    with pytest.raises(WeightsMismatchError, match=r"norm\.bias"):
        load_state(model, tensors, "weights")


def test_weights_of_another_architecture_version_are_refused() -> None:
    record = zoo.get_record("convit_nano")
    assert record.selected is not None
    with pytest.raises(IncompatibleWeightsError, match="fits version 7"):
        check_architecture(replace(record.selected, architecture_versions=(7,)), record)


def test_a_model_without_weights_says_how_to_get_some() -> None:
    with pytest.raises(NoWeightsError, match="convattn train convit_tiny_plus"):
        zoo.create_model("convit_tiny_plus", pretrained=True)


def test_models_with_nan_are_not_saved() -> None:
    model = zoo.create_model("convit_nano")
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    with pytest.raises(WeightsFileError, match="not finite"):
        weights_bytes(model)


def test_another_number_of_classes_starts_a_new_classifier() -> None:
    model = zoo.create_model("convit_nano", pretrained=True, num_classes=4)
    trained = zoo.create_model("convit_nano", pretrained=True)
    assert model.head.weight.shape == (4, 96)
    assert torch.equal(model.blocks[0].attn.v.weight, trained.blocks[0].attn.v.weight)
    assert model.pretrained_cfg.labels == ()
    assert model.pretrained_cfg.sha256 == ""


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_of_pretrained_models(name: str) -> None:
    model = zoo.create_model(name, pretrained=True, num_classes=0).eval()
    trained = zoo.create_model(name, pretrained=True).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = trained.forward_head(trained.forward_features(x), pre_logits=True)
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_grey_input_sums_the_first_convolution(name: str) -> None:
    grey = zoo.create_model(name, pretrained=True, in_chans=1).eval()
    colour = zoo.create_model(name, pretrained=True).eval()
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [n for n in NAMES if "img_size" in zoo.get_record(n).config])
def test_another_image_size_resamples_positions(name: str) -> None:
    larger = zoo.create_model(name, pretrained=True, img_size=48).eval()
    usual = zoo.create_model(name, pretrained=True).eval()
    x = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(larger(x), usual(x), atol=1e-5, rtol=1e-5)
    assert larger.pretrained_cfg.input.size == (48, 48)


def test_image_scaling_refers_to_the_size_in_training() -> None:
    larger = zoo.create_model("convit_nano", pretrained=True, img_size=64, position_scaling="image")
    attn = larger.blocks[0].attn
    assert attn.base_grid == (8, 8)
    assert larger.patch_embed.grid == (16, 16)
    usual = zoo.create_model("convit_nano", pretrained=True, position_scaling="image")
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(larger.eval()(x), usual.eval()(x), atol=1e-5, rtol=1e-5)


def test_harmless_overrides_keep_the_digest() -> None:
    record = zoo.get_record("convit_nano").selected
    model = zoo.create_model("convit_nano", pretrained=True, drop_path_rate=0.1)
    assert model.pretrained_cfg.sha256 == record.sha256


def test_overrides_that_change_other_tensors_are_refused() -> None:
    with pytest.raises(WeightsMismatchError):
        zoo.create_model("convit_nano", pretrained=True, embed_dim=48)


def test_reading_needs_no_file_on_disk() -> None:
    tensors = read_tensors(safetensors.torch.save({"a": torch.ones(2)}), "memory")
    assert torch.equal(tensors["a"], torch.ones(2))
