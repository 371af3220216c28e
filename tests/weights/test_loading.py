"""Models built for weights to come: the same as built first and loaded afterwards."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import zoo
from zoo.factory.building import construct
from zoo.factory.config_json import build_config
from zoo.factory.create import create_from_file, create_random
from zoo.files.local import sha256_bytes
from zoo.weights.loading import construct_loaded, load_state
from zoo.weights.safetensors_file import read_tensors, weights_bytes

from ..contract.helpers import FAMILIES, build, family_of, images, tiny

FILE = "model.safetensors"
CONSTRUCT = """
import sys
import torch
from zoo.factory.building import construct
from zoo.weights.loading import construct_loaded
from zoo.catalog.registry import families

for family in families().values():
    tensors = construct(family.builder, family.tiny).state_dict
    construct_loaded(lambda: construct(family.builder, family.tiny), tensors, "", adapt=False)
    if "torch._dynamo" in sys.modules:
        sys.exit(family.name)
"""


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(chain(module.named_parameters(), module.named_buffers()))


def _held(module: nn.Module) -> list[Tensor]:
    """Tensors that modules keep as plain attributes."""
    values = (value for child in module.modules() for value in vars(child).values())
    return [value for value in values if isinstance(value, Tensor)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_as_if_it_had_been_initialised_first(family: str) -> None:
    record = family_of(family)
    data = weights_bytes(tiny(family))
    expected = build(family)
    load_state(expected, read_tensors(data, "weights"), "weights")
    before = torch.random.get_rng_state()
    model, unchanged = construct_loaded(
        lambda: construct(record.builder, record.tiny),
        lambda: read_tensors(data, "weights"),
        "weights",
        adapt=False,
    )
    assert unchanged
    assert torch.equal(torch.random.get_rng_state(), before)
    assert _tensors(model).keys() == _tensors(expected).keys()
    for (name, actual), wanted in zip(
        _tensors(model).items(), _tensors(expected).values(), strict=True
    ):
        assert actual.dtype == wanted.dtype, name
        assert actual.stride() == wanted.stride(), name
        assert actual.requires_grad == wanted.requires_grad, name
        assert type(actual) is type(wanted), name
        assert actual.data_ptr() % 64 == 0, name
        assert torch.equal(actual, wanted), name
    assert not any(value.is_meta for value in _held(model))
    assert [m.training for m in model.modules()] == [m.training for m in expected.modules()]
    x = images(family)
    torch.manual_seed(0)
    actual = model(x)
    torch.manual_seed(0)
    assert torch.equal(actual, expected(x))  # in training mode, so that statistics move too
    for buffer, wanted in zip(model.buffers(), expected.buffers(), strict=True):
        assert torch.equal(buffer, wanted)


@pytest.mark.parametrize("keywords", [{"gating": "fixed"}, {"freeze_gpsa": "layer"}])
def test_frozen_parameters_stay_frozen(keywords: dict[str, str]) -> None:
    config = {**family_of("convit").tiny, **keywords}
    plain = construct(family_of("convit").builder, config)
    data = weights_bytes(plain)
    model, _ = construct_loaded(
        lambda: construct(family_of("convit").builder, config),
        lambda: read_tensors(data, "weights"),
        "weights",
        adapt=False,
    )
    flags = [p.requires_grad for p in plain.parameters()]
    assert not all(flags)
    assert [p.requires_grad for p in model.parameters()] == flags


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    model = create_random("convit_nano", 3)
    data = weights_bytes(model)
    (tmp_path / FILE).write_bytes(data)
    (tmp_path / "config.json").write_text(json.dumps(build_config(model, sha256_bytes(data))))
    return tmp_path


def test_a_loaded_model_can_change_without_its_file(directory: Path) -> None:
    data = (directory / FILE).read_bytes()
    first = zoo.create_model(str(directory), pretrained=True)
    second = zoo.create_model(str(directory), pretrained=True)
    wanted = {key: value.clone() for key, value in second.state_dict().items()}
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1.0)
    assert (directory / FILE).read_bytes() == data
    (directory / FILE).write_bytes(b"\xff" * len(data))
    for key, value in second.state_dict().items():
        assert torch.equal(value, wanted[key])


def test_loaded_parameters_are_ordinary_memory(directory: Path) -> None:
    model = zoo.create_model(str(directory), pretrained=True)
    x = torch.randn(2, 3, 32, 32)
    model(x).square().mean().backward()
    torch.optim.AdamW(model.parameters()).step()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.eval()
    expected = model(x)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(model.share_memory()(x), expected)
    safetensors.torch.save(model.state_dict())  # refuses tensors that share memory
    fresh = zoo.create_model(str(directory), pretrained=True)
    fresh.head.weight.untyped_storage().resize_(0)  # as sharded training does


def test_loading_draws_no_random_numbers_but_a_new_classifier_does(directory: Path) -> None:
    before = torch.random.get_rng_state()
    zoo.create_model(str(directory), pretrained=True, drop_path_rate=0.1, in_chans=1, img_size=48)
    zoo.create_model("convit_nano", pretrained=True, num_classes=0)
    create_from_file("convit_nano", str(directory / FILE))
    assert torch.equal(torch.random.get_rng_state(), before)
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = zoo.create_model("convit_nano", pretrained=True, num_classes=4)
        heads.append(model.head.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_adapted_tensors_have_the_layout_of_built_ones(directory: Path) -> None:
    model = zoo.create_model(str(directory), pretrained=True, in_chans=5, img_size=48)
    assert all(p.is_contiguous() for p in model.parameters())
    assert model.pretrained_cfg.sha256 == ""


def test_a_half_precision_file_becomes_a_float32_model(tmp_path: Path) -> None:
    state = create_random("convit_nano", 0).half().state_dict()
    safetensors.torch.save_file(state, str(tmp_path / FILE))
    model = create_from_file("convit_nano", str(tmp_path / FILE))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.norm.weight, state["norm.weight"].float())


def test_the_default_dtype_is_respected(directory: Path) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        model = zoo.create_model(str(directory), pretrained=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float64}


class _Tied(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
        if tied:
            self.b.weight = self.a.weight
        else:
            self.register_buffer("table", torch.arange(3), persistent=False)


@pytest.mark.parametrize("tied", [True, False])
def test_what_a_file_cannot_fill_is_initialised_first(tied: bool) -> None:
    state = {key: torch.ones_like(value) for key, value in _Tied(tied).state_dict().items()}
    model, _ = construct_loaded(lambda: _Tied(tied), lambda: state, "weights", adapt=False)
    assert not any(value.is_meta for value in _tensors(model).values())
    assert torch.equal(model.b.weight, torch.ones(2, 2))
    if tied:
        assert model.a.weight is model.b.weight
    else:
        assert torch.equal(model.table, torch.arange(3))


def test_all_dtypes_are_read_as_safetensors_reads_them() -> None:
    kinds = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8"]
    kinds += ["uint8", "bool"]
    state = {kind: torch.arange(6).reshape(2, 3).to(getattr(torch, kind)) for kind in kinds}
    state |= {"scalar": torch.tensor(7), "empty": torch.zeros(0, 3)}
    data = safetensors.torch.save(state)
    expected = safetensors.torch.load(data)
    actual = read_tensors(data, "memory")
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert actual[key].dtype == value.dtype
        assert torch.equal(actual[key], value)


def test_no_constructor_starts_the_compiler_on_the_meta_device() -> None:
    # torch computes some operators there, e.g. assignment by index, by importing all of dynamo
    done = subprocess.run([sys.executable, "-c", CONSTRUCT], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr + done.stdout
