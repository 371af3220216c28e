"""What every family promises, on its tiny configuration. Nothing here names an architecture."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import zoo
from tests.reference.naive import on_one_thread
from zoo.factory import construct

from .helpers import (
    FAMILIES,
    build,
    classes,
    families_taking,
    family_of,
    images,
    relative_error,
    run_or_refuse,
    tiny,
)

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


# Forward


@each_family
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_finite_and_one_per_class(family: str, batch: int) -> None:
    logits = build(family).eval()(images(family, batch))
    assert logits.shape == (batch, classes(family))
    assert logits.isfinite().all()


@each_family
def test_different_images_have_different_logits(family: str) -> None:
    logits = tiny(family)(images(family))
    assert relative_error(logits[:1], logits[1:]) > 1e-3


@each_family
def test_every_parameter_is_reached_by_backward(family: str) -> None:
    model = tiny(family)
    model(images(family)).square().sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused, f"backward never reaches {unused}"


@each_family
def test_every_gradient_is_finite(family: str) -> None:
    model = build(family)
    model(images(family)).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@each_family
def test_eval_is_deterministic(family: str) -> None:
    model, x = tiny(family), images(family)
    assert torch.equal(model(x), model(x))


@each_family
def test_eval_is_independent_of_the_rest_of_the_batch(family: str) -> None:
    model, x = tiny(family).double(), images(family, 3).double()
    alone = torch.cat([model(sample) for sample in x.split(1)])
    assert relative_error(alone, model(x)) < 1e-12


@each_family
def test_forward_is_the_head_on_the_features(family: str) -> None:
    model, x = tiny(family), images(family)
    assert torch.equal(model(x), model.forward_head(model.forward_features(x)))


@each_family
@pytest.mark.parametrize(
    "size", [(37, 53), (32, 48), (61, 32), (5, 7), (1, 1)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_odd_prime_small_and_oblong_images_run_or_are_refused_with_sizes_that_work(
    family: str, size: tuple[int, int]
) -> None:
    logits = run_or_refuse(tiny(family), images(family, 2, size))
    if logits is None:
        return
    assert logits.shape == (2, classes(family))
    assert logits.isfinite().all()


@each_family
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_run(family: str, dtype: torch.dtype) -> None:
    model, x = tiny(family), images(family)
    expected = model.double()(x.double())
    logits = model.to(dtype)(x.to(dtype))
    assert logits.dtype == dtype
    assert relative_error(logits, expected) < 32 * torch.finfo(dtype).eps


@each_family
def test_float32_is_close_to_float64(family: str) -> None:
    model, x = tiny(family), images(family)
    logits = model(x)
    assert relative_error(logits, model.double()(x.double())) < 1e-5


def _written(model: nn.Module) -> dict[str, Any]:
    """Every attribute of every module, tensors with their in-place version."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            entries = value.items() if isinstance(value, dict) else [("", value)]
            for name, entry in entries:
                version = entry._version if isinstance(entry, Tensor) else 0
                found[f"{path}/{key}/{name}"] = (id(entry), version)
    return found


@each_family
def test_forward_writes_nothing_on_the_model(family: str) -> None:
    model, x = tiny(family), images(family)
    before = _written(model)
    model(x)
    run_or_refuse(model, images(family, 1, (40, 24)))
    assert _written(model) == before


@each_family
def test_a_deep_copy_is_independent(family: str) -> None:
    model, x = tiny(family), images(family)
    expected = model(x)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(model(x), expected)


@each_family
def test_wrong_channels_are_refused_with_the_expected_shape(family: str) -> None:
    expected = r"expected a batch of images \(B, 3, H, W\); got shape \(2, 4, \d+, \d+\)"
    with pytest.raises(ValueError, match=expected):
        tiny(family)(images(family, in_chans=4))


@each_family
def test_a_single_image_or_a_batch_of_lines_is_refused(family: str) -> None:
    model, x = tiny(family), images(family)
    for wrong in (x[0], x[:, :, 0], x[None]):
        with pytest.raises(ValueError, match=r"expected a batch of images .*; got shape \("):
            model(wrong)


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


# Features and heads


def _sides(pixels: int, reduction: int) -> set[int]:
    """Side of a map: convolutions with padding round up, pools without it round down."""
    return {pixels // reduction, math.ceil(pixels / reduction)}


@each_family
def test_feature_info_names_modules_in_the_order_they_run(family: str) -> None:
    model, fired = tiny(family), []
    modules = dict(model.named_modules())
    names = [info["module"] for info in model.feature_info]
    for name in names:
        modules[name].register_forward_hook(lambda *_, name=name: fired.append(name))
    model(images(family))
    assert names
    assert fired == names


@each_family
@pytest.mark.parametrize("size", [(32, 32), (40, 24), (33, 47)])
def test_feature_info_tells_widths_and_reductions(family: str, size: tuple[int, int]) -> None:
    model, seen = tiny(family), {}
    modules = dict(model.named_modules())
    for info in model.feature_info:
        modules[info["module"]].register_forward_hook(
            lambda _module, _inputs, out, name=info["module"]: seen.update({name: out.shape})
        )
    if run_or_refuse(model, images(family, 2, size)) is None:
        return
    for info in model.feature_info:
        shape = seen[info["module"]]
        rows, columns = (_sides(pixels, info["reduction"]) for pixels in size)
        if len(shape) == 4:  # (B, C, H, W)
            assert shape[:2] == (2, info["num_chs"]), info
            assert shape[2] in rows, info
            assert shape[3] in columns, info
        else:  # (B, N, C), perhaps with a class token
            assert (shape[0], shape[2]) == (2, info["num_chs"]), info
            tokens = {height * width for height in rows for width in columns}
            assert {shape[1], shape[1] - 1} & tokens, info


@each_family
def test_without_classes_the_model_returns_embeddings(family: str) -> None:
    model, x = tiny(family), images(family)
    bare = build(family, num_classes=0).eval()
    result = bare.load_state_dict(model.state_dict(), strict=False)
    assert not result.missing_keys
    embeddings = bare(x)
    assert embeddings.shape == (2, model.num_features)
    assert torch.equal(embeddings, model.forward_head(model.forward_features(x), pre_logits=True))


@each_family
def test_the_classifier_turns_embeddings_into_logits(family: str) -> None:
    model, x = tiny(family), images(family)
    embeddings = model.forward_head(model.forward_features(x), pre_logits=True)
    assert torch.equal(model.get_classifier()(embeddings), model(x))


@each_family
def test_the_classifier_can_be_replaced(family: str) -> None:
    model, x = tiny(family).double(), images(family).double()
    features = model.forward_features(x)
    model.reset_classifier(5)
    assert model.num_classes == 5
    assert model.get_classifier().weight.shape == (5, model.num_features)
    assert model(x).shape == (2, 5)
    assert model(x).dtype == torch.float64
    assert torch.equal(model.forward_features(x), features)


@each_family
def test_the_classifier_can_be_removed(family: str) -> None:
    model, x = tiny(family), images(family)
    embeddings = model.forward_head(model.forward_features(x), pre_logits=True)
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert isinstance(model.get_classifier(), nn.Identity)
    assert torch.equal(model(x), embeddings)


@each_family
def test_pooling_cannot_be_changed_by_resetting_the_classifier(family: str) -> None:
    with pytest.raises(ValueError, match=r"global_pool='max' cannot be changed"):
        build(family).reset_classifier(5, global_pool="max")


# Overrides


@each_family
def test_grey_images_run_with_one_input_channel(family: str) -> None:
    model = tiny(family, in_chans=1)
    assert model(images(family, in_chans=1)).shape == (2, classes(family))
    with pytest.raises(ValueError, match=r"\(B, 1, H, W\)"):
        model(images(family))


def _with_drop_path(family: str) -> tuple[nn.Module, nn.Module]:
    """Two models of the same weights, the second with stochastic depth."""
    plain = tiny(family, drop_path_rate=0.0)
    dropped = build(family, drop_path_rate=0.9)
    dropped.load_state_dict(plain.state_dict())
    return plain, dropped


@pytest.mark.parametrize("family", families_taking("drop_path_rate"))
def test_drop_path_changes_training(family: str) -> None:
    plain, dropped = _with_drop_path(family)
    x = images(family, 8)
    torch.manual_seed(0)
    assert relative_error(dropped.train()(x), plain.train()(x)) > 1e-3


@pytest.mark.parametrize("family", families_taking("drop_path_rate"))
def test_drop_path_does_not_change_eval(family: str) -> None:
    plain, dropped = _with_drop_path(family)
    assert torch.equal(dropped.eval()(images(family)), plain.eval()(images(family)))


# Compilation and export


@each_family
def test_a_compiled_model_equals_eager(family: str) -> None:
    torch._dynamo.reset()
    model, x = tiny(family), images(family)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert relative_error(compiled(x), model(x)) < 1e-6


@pytest.mark.slow
@each_family
def test_a_compiled_model_has_the_same_gradients(family: str) -> None:
    torch._dynamo.reset()
    model, x = tiny(family).double(), images(family).double()
    parameters = list(model.parameters())
    eager = torch.autograd.grad(model(x).square().sum(), parameters)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    actual = torch.autograd.grad(compiled(x).square().sum(), parameters)
    for gradient, expected in zip(actual, eager, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


@each_family
def test_an_exported_model_takes_any_batch(family: str) -> None:
    model = tiny(family)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (images(family),), dynamic_shapes=({0: batch},))
    for size in (1, 2, 5):
        x = images(family, size)
        assert relative_error(program.module()(x), model(x)) < 1e-6
