"""Records, construction and state dicts of every family. Nothing here names an architecture."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from torch import nn

import zoo
from tests.reference.naive import on_one_thread
from zoo.factory.building import construct

from .helpers import FAMILIES, build, family_of, images, tiny

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
each_family = pytest.mark.parametrize("family", FAMILIES)


def state_shapes(model: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {key: (value.shape, value.dtype) for key, value in model.state_dict().items()}


# Records


def test_there_are_families() -> None:
    assert FAMILIES
    assert sorted(set(FAMILIES)) == FAMILIES


def test_model_names_are_unique_across_families() -> None:
    names = [name for family in FAMILIES for name in family_of(family).variants]
    assert len(set(names)) == len(names)
    assert sorted(zoo.list_models()) == sorted(names)


@each_family
@pytest.mark.parametrize("field", ["summary", "paper", "bibtex", "upstream"])
def test_records_say_where_a_family_comes_from(family: str, field: str) -> None:
    assert getattr(family_of(family), field).strip()


@each_family
def test_records_state_the_licences_of_code_and_weights(family: str) -> None:
    licence = family_of(family).licence
    assert licence.code.strip()
    assert licence.weights.strip()


@each_family
def test_citations_are_bibtex(family: str) -> None:
    bibtex = family_of(family).bibtex
    assert bibtex.startswith("@")
    assert bibtex.count("{") == bibtex.count("}")


@each_family
def test_summaries_and_descriptions_are_one_line(family: str) -> None:
    for name in family_of(family).variants:
        description = zoo.get_record(name).description
        assert description
        assert "\n" not in description
    assert "\n" not in family_of(family).summary


@each_family
def test_input_sizes_and_descriptions_belong_to_existing_models(family: str) -> None:
    record = family_of(family)
    assert set(record.inputs) <= set(record.variants)
    assert set(record.descriptions) <= set(record.variants)


@each_family
def test_every_size_is_made_for_the_input_of_its_record(family: str) -> None:
    for name in family_of(family).variants:
        record = zoo.get_record(name)
        size = record.config.get("img_size", record.input.size)
        assert ((size, size) if isinstance(size, int) else tuple(size)) == record.input.size, name
        assert record.config.get("in_chans", 3) == record.input.in_chans, name


@each_family
def test_every_size_builds_from_its_record(family: str) -> None:
    for name in family_of(family).variants:
        record = zoo.get_record(name)
        with torch.device("meta"):
            model = construct(family_of(family).builder, record.config)
        assert model.num_classes == record.config.get("num_classes", 1000), name


@each_family
def test_the_tiny_configuration_is_tiny(family: str) -> None:
    assert sum(p.numel() for p in build(family).parameters()) < 2_000_000


# Construction


@each_family
def test_models_come_back_in_training_mode(family: str) -> None:
    assert all(module.training for module in build(family).modules())


@each_family
def test_construction_follows_the_seed(family: str) -> None:
    first, second = build(family).state_dict(), build(family).state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@each_family
def test_the_config_survives_json(family: str) -> None:
    record = family_of(family)
    for name, config in {"tiny": record.tiny, **record.variants}.items():
        with torch.device("meta"):
            expected = construct(record.builder, config)
            actual = construct(record.builder, json.loads(json.dumps(dict(config))))
        assert state_shapes(actual) == state_shapes(expected), name


@each_family
def test_a_model_from_json_computes_the_same(family: str) -> None:
    model, x = tiny(family), images(family)
    config = json.loads(json.dumps(dict(family_of(family).tiny)))
    twin = construct(family_of(family).builder, config).eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), model(x))


@each_family
def test_construction_on_the_meta_device_allocates_nothing(family: str) -> None:
    with torch.device("meta"):
        model = build(family)
    assert all(value.is_meta for value in model.state_dict().values())
    assert state_shapes(model) == state_shapes(build(family))


@each_family
def test_a_meta_model_runs_after_loading(family: str) -> None:
    """Whatever is not in the state dict must not stay behind on the meta device."""
    model, x = tiny(family), images(family)
    with torch.device("meta"):
        empty = build(family).eval()
    empty.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(empty(x), model(x))


# State dict


@each_family
def test_the_state_dict_survives_safetensors_bit_for_bit(family: str) -> None:
    state = tiny(family).state_dict()
    loaded = safetensors.torch.load(safetensors.torch.save(state))
    assert loaded.keys() == state.keys()
    for key, value in state.items():
        assert loaded[key].dtype == value.dtype
        assert torch.equal(loaded[key], value), key


@each_family
def test_a_loaded_model_computes_the_same(family: str) -> None:
    model, x = tiny(family), images(family)
    twin = build(family).eval()
    twin.load_state_dict(safetensors.torch.load(safetensors.torch.save(model.state_dict())))
    assert torch.equal(twin(x), model(x))


@each_family
def test_tensors_of_the_state_dict_share_no_memory(family: str) -> None:
    state = build(family).state_dict()
    storages = {value.untyped_storage().data_ptr() for value in state.values()}
    assert len(storages) == len(state)


@each_family
def test_tensors_of_the_state_dict_are_contiguous(family: str) -> None:
    assert all(value.is_contiguous() for value in build(family).state_dict().values())
