"""Names, tags, versions and records: a toy catalogue stands in for the real one."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import zoo
from zoo import registry
from zoo.errors import (
    ConfigError,
    DuplicateNameError,
    IncompatibleWeightsError,
    NoWeightsError,
    UnknownModelError,
)
from zoo.records import Family, InputSpec, Licence, WeightsRecord

ROOT = Path(__file__).resolve().parents[1]
discover_families = registry.families.__wrapped__  # of the real catalogue, without its cache
CONFIG = {
    "img_size": 32,
    "patch_size": 8,
    "num_classes": 7,
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 4,
}


def weights(model: str = "toy_nano", tag: str = "digits", version: str = "1.0.0", **changes: Any):
    values = {"sha256": "0" * 64, "size_bytes": 1, "architecture_versions": (1,)}
    values |= {"bundled": "toy.safetensors", **changes}
    return WeightsRecord(model=model, tag=tag, version=version, **values)


def family(name: str = "toy", **changes: Any) -> Family:
    values = {
        "builder": "convit:ConViT",
        "summary": "a toy",
        "paper": "arXiv:2103.10697",
        "bibtex": "@misc{toy}",
        "upstream": "nowhere",
        "licence": Licence(code="Apache-2.0", weights="Apache-2.0"),
        "variants": {f"{name}_nano": CONFIG, f"{name}_tiny": CONFIG},
        "tiny": CONFIG,
    }
    return Family(name=name, **{**values, **changes})


TOYS = {
    "toy": family(
        weights=(
            weights(version="1.9.0"),
            weights(tag="sketches"),
            weights(version="1.10.0"),
            weights(version="1.2.0"),
            weights(tag="future", architecture_versions=(2, 3)),
        )
    ),
    "wood": family("wood"),
}


@pytest.fixture(autouse=True)
def _toy_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "families", lambda: TOYS)
    monkeypatch.setattr(registry, "_registered", [])
    monkeypatch.setattr(registry, "_catalogs_read", set())
    monkeypatch.delenv("CONVATTN_CATALOG", raising=False)


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
    assert "`convattn list` shows all" in str(caught.value)


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


def test_a_record_is_a_copy_of_the_configuration() -> None:
    zoo.get_record("toy_nano").config["depth"] = 99
    assert zoo.get_record("toy_nano").config["depth"] == 1


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


# Records


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag": "Digits"}, r"weights toy_nano\.Digits@1\.0\.0: tag must match"),
        ({"tag": ""}, "tag must match"),
        ({"version": "1.0"}, r"version must be X\.Y\.Z"),
        ({"version": "1.00.0"}, r"version must be X\.Y\.Z"),
        ({"sha256": "0" * 63}, "sha256 must be 64 hexadecimal digits"),
        ({"sha256": "G" * 64}, "sha256 must be 64 hexadecimal digits"),
        ({"size_bytes": 0}, "size_bytes must be positive; got 0"),
        ({"bundled": ""}, "give either bundled or repo"),
        ({"repo": "org/name", "revision": "a" * 40}, "give either bundled or repo"),
        ({"bundled": "", "repo": "org/name"}, "full commit hash of 40 .* got ''"),
        ({"bundled": "", "repo": "org/name", "revision": "main"}, "full commit .* got 'main'"),
        ({"architecture_versions": ()}, "architecture_versions is empty"),
    ],
)
def test_impossible_weights_records_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        weights(**changes)
    assert caught.value.code == "record"


def test_a_hub_record_needs_repository_and_commit_only() -> None:
    record = weights(bundled="", repo="org/name", revision="a" * 40)
    assert (record.file, record.name) == ("model.safetensors", "toy_nano.digits@1.0.0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {}}, "family toy: no variants"),
        ({"tiny": {}}, "family toy: no tiny configuration"),
        ({"variants": {"Toy-nano": CONFIG}}, "'Toy-nano' must match"),
        ({"weights": (weights("wood_nano"),)}, r"weights for unknown models \['wood_nano'\]"),
    ],
)
def test_impossible_families_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        family(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (32,)}, r"size must be \(height, width\); got \(32,\)"),
        ({"size": (0, 32)}, "size must be"),
        ({"in_chans": 0}, "in_chans must be positive; got 0"),
        ({"mean": (0.5,)}, "one positive-deviation entry per channel"),
        ({"std": (0.5, 0.5, 0.0)}, "one positive-deviation entry per channel"),
        ({"interpolation": "lanczos"}, "bicubic, bilinear or nearest; got 'lanczos'"),
        ({"crop_pct": 0.0}, r"crop_pct must be in \(0, 1\]; got 0"),
        ({"crop_pct": 1.1}, r"crop_pct must be in \(0, 1\]; got 1.1"),
    ],
)
def test_impossible_inputs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InputSpec(**changes)


def test_an_input_survives_json() -> None:
    spec = InputSpec(size=(32, 48), in_chans=1, mean=(0.1,), std=(0.2,), interpolation="nearest")
    assert InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_records_cannot_be_changed() -> None:
    for record in (weights(), family(), InputSpec(), zoo.get_record("toy_nano")):
        first = dataclasses.fields(record)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, first, "other")


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


# CONVATTN_CATALOG


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "model": "toy_tiny",
        "tag": "private",
        "version": "1.0.0",
        "sha256": "0" * 64,
        "size_bytes": 1,
        "repo": "org/name",
        "revision": "a" * 40,
        **changes,
    }


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "catalog.json"
    monkeypatch.setenv("CONVATTN_CATALOG", str(path))
    return path


def test_a_catalog_file_adds_weights(catalog: Path) -> None:
    catalog.write_text(json.dumps([entry(), entry(version="1.1.0")]))
    assert zoo.get_record("toy_tiny").selected.name == "toy_tiny.private@1.1.0"
    assert zoo.list_models(pretrained=True, family="toy") == ["toy_nano", "toy_tiny"]


def test_a_catalog_file_is_read_once(catalog: Path) -> None:
    catalog.write_text(json.dumps([entry()]))
    assert len(zoo.get_record("toy_tiny").weights) == len(zoo.get_record("toy_tiny").weights) == 1


def test_a_catalog_file_may_state_input_and_metrics(catalog: Path) -> None:
    metric = {"name": "acc1_percent", "value": 90.0, "dataset": "toys", "source": "us"}
    spec = InputSpec(size=(16, 16), crop_pct=1.0)
    catalog.write_text(json.dumps([entry(input=spec.to_dict(), metrics=[metric])]))
    selected = zoo.get_record("toy_tiny").selected
    assert selected.input == spec
    assert dataclasses.asdict(selected.metrics[0]) == metric


BROKEN = {
    "not JSON": ("{", "Expecting property name"),
    "not a list": (json.dumps({"model": "toy_tiny"}), "must be a JSON list"),
    "a list of names": (json.dumps(["toy_tiny"]), "must be a JSON list"),
    "an unknown field": (json.dumps([entry(hash="0")]), "unexpected keyword argument 'hash'"),
    "a missing field": (json.dumps([{"model": "toy_tiny"}]), "missing .* 'tag'"),
    "a bad digest": (json.dumps([entry(sha256="0")]), "sha256 must be 64"),
    "a bad metric": (json.dumps([entry(metrics=[{"name": "x"}])]), "must be a JSON list"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_catalog_file_is_named_with_its_fault(
    text: str, message: str, catalog: Path
) -> None:
    catalog.write_text(text)
    for _ in range(2):  # every time, not only at first
        with pytest.raises(ConfigError, match=message) as caught:
            zoo.list_models()
        assert str(catalog) in str(caught.value)


def test_a_missing_catalog_file_is_named(catalog: Path) -> None:
    with pytest.raises(ConfigError, match=f"CONVATTN_CATALOG='{catalog}'.*No such file"):
        zoo.list_models()


def test_a_catalog_file_with_a_bad_entry_adds_nothing(catalog: Path) -> None:
    catalog.write_text(json.dumps([entry(), entry(model="toy_tinny")]))
    for _ in range(2):
        with pytest.raises(UnknownModelError, match="toy_tinny"):
            zoo.list_models()


def _list_with(catalog: Path) -> subprocess.CompletedProcess[str]:
    code = "import zoo; print(*zoo.list_models(with_tags=True))"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "CONVATTN_CATALOG": str(catalog)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_environment_adds_a_catalog_file_to_the_real_one(tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps([entry(model="convit_nano")]))
    done = _list_with(path)
    assert done.returncode == 0, done.stderr
    assert "convit_nano.private" in done.stdout.split()


def test_the_environment_with_a_broken_catalog_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    path.write_text("[")
    done = _list_with(path)
    assert done.returncode != 0
    assert f"ConfigError: CONVATTN_CATALOG='{path}' must be a JSON list" in done.stderr
