"""Names, tags, versions: how a reference finds its record, and what registering changes."""

from __future__ import annotations

import copy
import json
import operator
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import zoo
from zoo.catalog import registry
from zoo.errors import (
    ConfigError,
    DuplicateNameError,
    IncompatibleWeightsError,
    NoWeightsError,
    UnknownModelError,
)

from .toys import CONFIG, weights

discover_families = registry.families.__wrapped__  # of the real catalogue, without its cache


# References


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("toy_nano", ("toy_nano", None, None)),
        ("toy_nano.digits", ("toy_nano", "digits", None)),
        ("toy_nano@1.2.0", ("toy_nano", None, "1.2.0")),
        ("toy_nano.digits@1.2.0", ("toy_nano", "digits", "1.2.0")),
    ],
)
def test_references_split_into_name_tag_and_version(reference: str, parts: Any) -> None:
    assert registry.split_reference(reference) == parts


@pytest.mark.parametrize(
    "reference", ["", ".digits", "@1.0.0", "toy_nano.", "toy_nano@", "toy_nano.@1.0.0"]
)
def test_malformed_references_say_what_is_expected(reference: str) -> None:
    with pytest.raises(UnknownModelError, match=r"is not a model name; expected ARCH\[\.TAG\]"):
        zoo.get_record(reference)


@pytest.mark.parametrize(
    "version", ["1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "newest", "1.0.0@2"]
)
def test_malformed_versions_say_what_is_expected(version: str) -> None:
    with pytest.raises(UnknownModelError, match=rf"{version}' must be X\.Y\.Z, e\.g\. @1\.0\.0"):
        zoo.get_record(f"toy_nano@{version}")


def test_a_misspelt_model_gets_a_suggestion() -> None:
    with pytest.raises(UnknownModelError, match="'toy_nanno'; did you mean toy_nano") as caught:
        zoo.get_record("toy_nanno")
    assert caught.value.code == "unknown_model"
    assert "`convattn list` shows all, and timm:NAME" in str(caught.value)


def test_a_model_unlike_any_other_gets_no_suggestion() -> None:
    with pytest.raises(UnknownModelError) as caught:
        zoo.get_record("qqqqqq")
    assert "did you mean" not in str(caught.value)


def test_a_misspelt_tag_gets_a_suggestion() -> None:
    expected = (
        r"toy_nano has no tag 'digit'; it has digits, sketches, future; did you mean .*digits"
    )
    with pytest.raises(UnknownModelError, match=expected) as caught:
        zoo.get_record("toy_nano.digit")
    assert caught.value.code == "unknown_tag"


def test_a_tag_of_a_model_without_weights_is_refused() -> None:
    with pytest.raises(UnknownModelError, match="toy_tiny has no tag 'digits'; it has no weights"):
        zoo.get_record("toy_tiny.digits")


def test_an_unknown_version_names_those_that_exist() -> None:
    expected = r"toy_nano\.digits has no version 1\.3\.0; it has 1\.10\.0, 1\.9\.0, 1\.2\.0"
    with pytest.raises(UnknownModelError, match=expected) as caught:
        zoo.get_record("toy_nano.digits@1.3.0")
    assert caught.value.code == "unknown_version"


def test_a_version_of_a_model_without_weights_is_refused_by_its_version() -> None:
    with pytest.raises(UnknownModelError) as caught:
        zoo.get_record("toy_tiny@1.0.0")
    assert "1.0.0" in str(caught.value)
    assert "None" not in str(caught.value)


def test_a_misspelt_family_gets_a_suggestion() -> None:
    with pytest.raises(UnknownModelError, match="unknown family 'tooy'; did you mean toy"):
        zoo.list_models(family="tooy")


def test_unknown_names_are_lookup_errors_of_the_zoo() -> None:
    with pytest.raises(LookupError) as caught:
        zoo.get_record("toy_nanno")
    assert isinstance(caught.value, zoo.ZooError)


# Selection


def test_the_newest_version_is_by_number_not_by_letter() -> None:
    assert zoo.get_record("toy_nano.digits").selected == weights(version="1.10.0")


def test_weights_are_listed_by_tag_newest_first() -> None:
    names = [w.name.removeprefix("toy_nano.") for w in zoo.get_record("toy_nano").weights]
    digits = ["digits@1.10.0", "digits@1.9.0", "digits@1.2.0"]
    assert names == [*digits, "sketches@1.0.0", "future@1.0.0"]


def test_without_a_tag_the_first_one_is_selected() -> None:
    assert zoo.get_record("toy_nano").selected == weights(version="1.10.0")
    assert zoo.get_record("toy_nano").tags == ("digits", "sketches", "future")


def test_a_tag_and_a_version_select_exactly_that() -> None:
    assert zoo.get_record("toy_nano.digits@1.2.0").selected == weights(version="1.2.0")
    assert zoo.get_record("toy_nano.sketches").selected == weights(tag="sketches")


def test_a_version_without_a_tag_is_one_of_the_first_tag() -> None:
    assert zoo.get_record("toy_nano@1.9.0").selected == weights(version="1.9.0")


def test_a_model_without_weights_selects_nothing() -> None:
    record = zoo.get_record("toy_tiny")
    assert record.selected is None
    assert record.tags == ()


def test_the_facts_of_a_record_cannot_be_changed() -> None:
    record = zoo.get_record("toy_nano")
    changes: list[Callable[[], Any]] = [
        lambda: record.config.update(depth=99),
        lambda: record.family.variants["toy_nano"].pop("depth"),
        lambda: record.family.variants.clear(),
        lambda: record.selected.overrides.setdefault("num_classes", 7),
        lambda: operator.setitem(record.config, "depth", 99),
        lambda: operator.ior(record.config, {"depth": 99}),
        lambda: operator.delitem(record.family.tiny, "depth"),
    ]
    for change in changes:
        with pytest.raises(TypeError, match=r"cannot be changed; dict\(...\) makes a copy"):
            change()
    assert zoo.get_record("toy_nano") == record
    assert record.config == CONFIG


def test_a_record_survives_copies_and_pickling() -> None:
    record = zoo.get_record("toy_nano")
    for twin in (copy.deepcopy(record), copy.copy(record), pickle.loads(pickle.dumps(record))):
        assert twin == record
        with pytest.raises(TypeError, match="cannot be changed"):
            twin.config["depth"] = 99
    assert {**record.config, "depth": 2}["depth"] == 2
    assert json.loads(json.dumps(record.config)) == CONFIG


# Listing

LISTINGS = [
    ({}, ["toy_nano", "toy_tiny", "wood_nano", "wood_tiny"]),
    ({"filter": "*_nano"}, ["toy_nano", "wood_nano"]),
    ({"filter": ["wood*", "*tiny"]}, ["toy_tiny", "wood_nano", "wood_tiny"]),
    ({"filter": "TOY*"}, []),
    ({"filter": "toy"}, []),
    ({"family": "wood"}, ["wood_nano", "wood_tiny"]),
    ({"family": "wood", "filter": "toy*"}, []),
    ({"pretrained": True}, ["toy_nano"]),
    ({"with_tags": True}, ["toy_nano.digits", "toy_nano.sketches", "toy_nano.future"]),
    ({"with_tags": True, "filter": "*.s*"}, ["toy_nano.sketches"]),
    ({"pretrained": True, "with_tags": True, "filter": "*digits"}, ["toy_nano.digits"]),
]


@pytest.mark.parametrize(("keywords", "expected"), LISTINGS, ids=[str(k) for k, _ in LISTINGS])
def test_listing(keywords: dict[str, Any], expected: list[str]) -> None:
    assert zoo.list_models(**keywords) == expected


def test_families_are_listed_by_name() -> None:
    assert zoo.list_families() == ["toy", "wood"]


# Registering


def test_registered_weights_are_found_listed_and_selected() -> None:
    zoo.register_weights(weights("wood_nano", "private", "2.0.0"))
    assert zoo.get_record("wood_nano").selected == weights("wood_nano", "private", "2.0.0")
    assert "wood_nano.private" in zoo.list_models(with_tags=True)


def test_a_registered_newer_version_of_a_tag_is_selected() -> None:
    zoo.register_weights(weights(version="2.0.0"))
    assert zoo.get_record("toy_nano").selected == weights(version="2.0.0")
    assert zoo.get_record("toy_nano.digits@1.10.0").selected == weights(version="1.10.0")


def test_a_registered_tag_comes_after_those_of_the_catalogue() -> None:
    zoo.register_weights(weights(tag="aaa", version="9.0.0"))
    assert zoo.get_record("toy_nano").selected == weights(version="1.10.0")


@pytest.mark.parametrize("version", ["1.9.0", "3.0.0"], ids=["catalogue", "run time"])
def test_a_version_is_registered_once(version: str) -> None:
    if version == "3.0.0":
        zoo.register_weights(weights(version=version))
    count = len(zoo.get_record("toy_nano").weights)
    expected = (
        rf"toy_nano\.digits@{version} are registered already; published versions never change"
    )
    with pytest.raises(DuplicateNameError, match=expected):
        zoo.register_weights(weights(version=version, sha256="1" * 64))
    assert len(zoo.get_record("toy_nano").weights) == count


def test_weights_of_an_unknown_model_are_refused() -> None:
    with pytest.raises(UnknownModelError, match="'toy_nanna'; did you mean toy_nano"):
        zoo.register_weights(weights("toy_nanna"))


@pytest.mark.parametrize("reference", ["toy_nano.digits", "toy_nano@1.9.0"])
def test_weights_belong_to_a_model_not_to_other_weights(reference: str) -> None:
    with pytest.raises(zoo.ZooError):
        zoo.register_weights(weights(reference, "private"))


@pytest.mark.parametrize("doubled", ["convit", "conv_attention_vit"])
def test_two_families_of_one_name_are_refused(
    doubled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = [SimpleNamespace(name=doubled)] * 2
    monkeypatch.setattr(registry, "pkgutil", SimpleNamespace(iter_modules=lambda _: modules))
    with pytest.raises(DuplicateNameError, match=f"the family name '{doubled}' is taken"):
        discover_families()


# Creating


def test_weights_for_another_version_of_the_architecture_are_refused() -> None:
    expected = (
        r"toy_nano\.future@1\.0\.0 fits version 2, 3 of the toy architecture; this is version 1"
    )
    with pytest.raises(IncompatibleWeightsError, match=expected):
        zoo.create_model("toy_nano.future", pretrained=True)


def test_a_tag_without_pretrained_builds_the_architecture() -> None:
    assert zoo.create_model("toy_nano.future").num_classes == 7


def test_a_model_without_weights_cannot_be_pretrained() -> None:
    with pytest.raises(NoWeightsError, match=r"toy_tiny has no weights .*`convattn train toy_tiny"):
        zoo.create_model("toy_tiny", pretrained=True)


def test_a_misspelt_keyword_gets_a_suggestion() -> None:
    expected = "ConViT has no argument 'num_class'; did you mean num_classes?"
    with pytest.raises(ConfigError, match=expected) as caught:
        zoo.create_model("toy_nano", num_class=3)
    assert caught.value.code == "unknown_argument"


def test_an_unrecognisable_keyword_gets_the_list_of_all() -> None:
    with pytest.raises(ConfigError, match="no argument 'qqqq'; it takes img_size, patch_size"):
        zoo.create_model("toy_nano", qqqq=3)


def test_an_impossible_value_repeats_what_the_constructor_says() -> None:
    with pytest.raises(ConfigError, match=r"ConViT cannot be built: .* dim=18, num_heads=4"):
        zoo.create_model("toy_nano", embed_dim=18)


def test_a_created_model_knows_what_it_is() -> None:
    cfg = zoo.create_model("toy_nano", num_classes=3, in_chans=1).pretrained_cfg
    assert (cfg.name, cfg.num_classes, cfg.tag, cfg.sha256) == ("toy_nano", 3, "", "")
    assert (cfg.input.size, cfg.input.in_chans) == ((32, 32), 1)
    assert cfg.model_args == {"num_classes": 3, "in_chans": 1}
