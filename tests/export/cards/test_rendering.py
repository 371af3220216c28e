"""What a card says, and what it refuses to say."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

import zoo
from export.cards import facts as card_facts
from export.cards.document import cards, render
from export.cards.facts import facts_of, require_measured
from export.cards.metadata import eval_results, plain, source_url, split_of
from zoo.catalog.citations import LAYERS, bibtex_of, entries
from zoo.catalog.records import Licence, ModelRecord
from zoo.catalog.tables import read_labels
from zoo.errors import ConfigError, IntegrityError, NotFoundError, NoWeightsError, UnknownModelError

from ...contract.helpers import build
from .conftest import NANO, RANDOM, Edit


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_what_was_not_measured_says_so_and_shows_no_number(tmp_path: Path) -> None:
    text = render(facts_of(NANO, tmp_path))
    assert "Their accuracy is not measured." in text
    for title in ("Metrics", "Calibration", "Parity", "Speed"):
        assert "Not measured." in section(text, title)
        assert not re.search(r"\d\.\d|\d %", section(text, title))
    assert "How these weights were trained is not recorded." in text
    assert "model-index" not in text
    assert eval_results(facts_of(NANO, tmp_path)) == {}


@pytest.mark.parametrize("file", ["accuracy.json", "parity.json"])
def test_a_file_measured_on_other_weights_is_refused(file: str, measured: Path, edit: Edit) -> None:
    edit(file, lambda content: content.update(weights_sha256="0" * 64))
    with pytest.raises(IntegrityError, match=rf"{file}.*0000000000000000.*measure again") as error:
        facts_of(NANO, measured)
    assert error.value.code == "other_weights"
    assert error.value.exit_code == 4


def test_the_story_of_another_run_is_refused(
    measured: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = zoo.get_record(NANO)
    assert record.selected is not None
    weights = replace(record.selected, recipe="digits", seed=1)
    monkeypatch.setattr(card_facts, "get_record", lambda _: replace(record, selected=weights))
    edit("training.json", lambda content: content["recipe"].update(name="digits", seed=0))
    with pytest.raises(IntegrityError, match="recipe 'digits', seed 0; the record says"):
        facts_of(NANO, measured)
    edit("training.json", lambda content: content["recipe"].update(seed=1))
    assert "--reproduce" in section(render(facts_of(NANO, measured)), "Training")


@pytest.mark.parametrize("content", ["", "[1]", "no json", '{"weights_sha256": 1'])
@pytest.mark.parametrize("file", ["accuracy.json", "training.json"])
def test_a_damaged_measured_file_is_named(file: str, content: str, measured: Path) -> None:
    (measured / NANO / file).write_text(content)
    with pytest.raises(ConfigError, match=rf"{file} is no "):
        facts_of(NANO, measured)


def test_an_accuracy_without_results_is_refused(measured: Path, edit: Edit) -> None:
    edit("accuracy.json", lambda content: content.pop("results"))
    with pytest.raises(ConfigError, match="--out` wrote: results is missing"):
        render(facts_of(NANO, measured))


def test_a_bench_file_of_another_form_is_named(measured: Path) -> None:
    (measured / RANDOM / "speed.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"speed\.json.*convattn bench model"):
        facts_of(NANO, measured)


def _with(record: ModelRecord, **family: Any) -> ModelRecord:
    weights = replace(record.selected, licence="")  # type: ignore[type-var]
    return replace(record, family=replace(record.family, **family), selected=weights)


def test_a_record_without_licence_has_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = _with(zoo.get_record(NANO), licence=Licence(code="Apache-2.0", weights=""))
    monkeypatch.setattr(card_facts, "get_record", lambda _: record)
    with pytest.raises(ConfigError, match="states no licence") as error:
        facts_of(NANO, tmp_path)
    assert error.value.code == "licence"


def test_a_record_without_citation_has_no_card(tmp_path: Path) -> None:
    facts = facts_of(NANO, tmp_path)
    facts = replace(facts, record=_with(zoo.get_record(NANO), bibtex=""))
    with pytest.raises(ConfigError, match="no BibTeX entry") as error:
        render(facts)
    assert error.value.code == "citation"


def test_names_without_weights_have_no_card(tmp_path: Path) -> None:
    with pytest.raises(NoWeightsError, match=r"alexnet has no weights.*none"):
        facts_of("alexnet", tmp_path)
    with pytest.raises(UnknownModelError, match="did you mean"):
        facts_of("convit_nanno", tmp_path)
    with pytest.raises(NotFoundError, match="--measured DIR"):
        require_measured(tmp_path / "absent")


def test_the_front_matter_is_what_the_hub_expects(measured: Path) -> None:
    card = ModelCard(render(facts_of(NANO, measured)))
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "convattn-zoo"
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.datasets == ["sklearn-docs/digits"]
    assert card.data.get("base_model") is None
    assert {"onnx", "safetensors", "convit"} <= set(card.data.tags or ())
    assert "timm" not in (card.data.tags or ())
    parts = [result.dataset_split for result in card.data.eval_results or ()]
    assert parts == ["validation", "test"]


def test_weights_that_plain_timm_loads_say_so_and_whose_copy_they_are(tmp_path: Path) -> None:
    card = ModelCard(render(facts_of("convit_base", tmp_path)))
    assert card.data.library_name == "timm"
    assert card.data.base_model == "timm/convit_base.fb_in1k"
    assert {r.metric_value for r in card.data.eval_results or ()} == {0.82296, 0.95936}
    assert {r.source_url for r in card.data.eval_results or ()} == {
        "https://github.com/huggingface/pytorch-image-models/tree/main/results"
    }


def test_a_licence_that_the_hub_does_not_know_is_named_beside_other(tmp_path: Path) -> None:
    facts = facts_of(NANO, tmp_path)
    facts = replace(facts, cfg=replace(facts.cfg, licence="Our-Own-1.0"))
    data = ModelCard(render(facts)).data
    assert (data.license, data.license_name, data.license_link) == (
        "other", "Our-Own-1.0", "LICENSE",
    )  # fmt: skip


@pytest.mark.parametrize("name", cards())
def test_eval_results_are_read_by_the_hubs_own_class(name: str, measured: Path) -> None:
    import huggingface_hub as hub

    if not hasattr(hub, "parse_eval_result_entries"):
        pytest.skip("this huggingface_hub has no EvalResultEntry")
    found = eval_results(facts_of(name, measured))
    if name in (NANO, "convit_tiny.fb_in1k"):
        assert found
    for text in found.values():
        [entry] = hub.parse_eval_result_entries(yaml.safe_load(text))
        assert entry.dataset_id in ("sklearn-docs/digits", "ILSVRC/imagenet-1k")
        assert 0 < entry.value <= 100
        assert entry.notes


def test_eval_results_are_the_same_without_the_hubs_class(
    measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of(NANO, measured), facts_of("convit_tiny", measured)
    expected = [eval_results(entry) for entry in facts]
    monkeypatch.setitem(sys.modules, "huggingface_hub", ModuleType("huggingface_hub"))
    assert [eval_results(entry) for entry in facts] == expected


def test_published_numbers_stand_apart_with_what_the_sources_disagree_on(tmp_path: Path) -> None:
    metrics = section(render(facts_of("convit_base", tmp_path)), "Metrics")
    ours, published = metrics.split("### Published, not measured by us")
    assert "Not measured." in ours
    assert not re.search(r"\d\d\.\d", ours)
    assert "| 82.4 | ImageNet-1k validation | arXiv:2103.10697, table 1 |" in published
    assert "| 82.296 | ImageNet-1k validation | timm, results/*.csv, crop 0.875 |" in published
    assert "-0.104 points" in published


def test_measured_numbers_have_interval_command_and_digest_of_the_data(measured: Path) -> None:
    accuracy = json.loads((measured / NANO / "accuracy.json").read_text("utf-8"))
    test = accuracy["results"]["digits/test"]
    metrics = section(render(facts_of(NANO, measured)), "Metrics")
    low, high = test["interval95_percent"]
    shown = f"**{test['acc1_percent']:.2f}** ({test['correct']} of 364; 95 %: {low:.1f} to"
    assert f"{shown} {high:.1f})" in metrics
    assert f"`{accuracy['command']}`" in metrics
    assert test["data_sha256"][:16] in metrics


def test_the_recipe_shows_the_settings_that_took_part(measured: Path, edit: Edit) -> None:
    text = section(render(facts_of(NANO, measured)), "Training")
    assert "rotate degrees 10.0" in text
    assert "flip" not in text
    edit("training.json", lambda content: content["recipe"].update(pipeline="stream"))
    text = section(render(facts_of(NANO, measured)), "Training")
    assert "flip 0.5" in text
    assert "rotate" not in text


def test_several_seeds_are_shown_with_mean_and_interval(measured: Path, edit: Edit) -> None:
    runs = [
        {"seed": s, "validation_acc1_percent": 99.0 + s / 10, "test_acc1_percent": 98.0 + s / 10}
        for s in range(3)
    ]
    mean = {"mean": 98.1, "interval95": [97.85, 98.35]}
    seeds = {
        "runs": runs, "released": 2, "validation_acc1_percent": mean, "test_acc1_percent": mean
    }  # fmt: skip
    edit("training.json", lambda content: content.update(seeds=seeds))
    text = section(render(facts_of(NANO, measured)), "Training")
    assert "The same recipe with 3 seeds:" in text
    assert "| 2 (these weights) | 99.20 | 98.20 |" in text
    assert "98.10 (97.85 to 98.35)" in text
    edit("training.json", lambda content: content["seeds"].update(runs=runs[:1]))
    assert "seeds:" not in section(render(facts_of(NANO, measured)), "Training")


def test_cuda_rows_appear_when_they_were_measured(measured: Path, edit: Edit) -> None:
    assert "CUDA and TensorRT: not measured." in section(render(facts_of(NANO, measured)), "Parity")
    shutil.copy(measured / NANO / "parity.json", measured / NANO / "parity-h200.json")

    def on_cuda(content: dict[str, Any]) -> None:
        for row in content["rows"]:
            row["provider"] = "CUDAExecutionProvider"
            row["tf32"] = True
        content["machine"] = {"cpu": "a processor", "gpu": "NVIDIA H200"}

    edit("parity-h200.json", on_cuda)
    text = section(render(facts_of(NANO, measured)), "Parity")
    assert "CUDAExecutionProvider, TF32" in text
    assert "CPUExecutionProvider" in text
    assert "Measured on NVIDIA H200" in text
    assert "not measured" not in text


def test_a_failing_verdict_is_shown(measured: Path, edit: Edit) -> None:
    edit("parity.json", lambda content: content["rows"][0].update(passed=False))
    assert "**FAIL**" in section(render(facts_of(NANO, measured)), "Parity")


def test_speed_is_a_ratio_with_interval_from_the_bench_file(measured: Path) -> None:
    text = section(render(facts_of(NANO, measured)), "Speed")
    found = json.loads((measured / RANDOM / "speed.json").read_text("utf-8"))
    for candidate in found["candidates"]:
        assert f"| {candidate['by']} | {candidate['of_eager']['value']:.2f} |" in text
    (measured / RANDOM / "speed.json").unlink()
    assert "Not measured." in section(render(facts_of(NANO, measured)), "Speed")


def test_licences_of_code_and_weights_are_apart_and_the_conflict_is_shown(tmp_path: Path) -> None:
    text = section(render(facts_of("convit_tiny", tmp_path)), "Licence")
    assert "| weights | Apache-2.0 |" in text
    assert "| upstream's code | Apache-2.0 |" in text
    assert "CC-BY-NC" in text


@pytest.mark.parametrize("name", cards())
def test_a_card_cites_what_the_command_prints(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.cli import main

    with pytest.raises(SystemExit):
        main(["cite", name])
    lines = capsys.readouterr().out.splitlines()
    printed = "\n".join(line for line in lines if not line.startswith("%"))
    text = render(facts_of(name, tmp_path))
    [block] = re.findall(r"```bibtex\n(.*?)\n```", text, flags=re.DOTALL)
    assert block == printed


def test_the_lineage_names_whom_to_cite_for_each_layer() -> None:
    keys = {entry.layer: set(entry.keys) for entry in LAYERS}
    assert keys["GatedPositionalSelfAttention"] == {"dascoli2021convit"}
    assert {"park2022how", "yang2019convolutional", "wang2020vitpytorch"} <= keys["ConvAttention2d"]
    assert {"park2022how", "wu2021cvt", "wang2020vitpytorch"} <= keys["LocalAttention"]
    assert all(key in entries() for found in keys.values() for key in found)
    families = zoo.list_families()
    for entry in LAYERS:
        assert entry.family in families
        record = zoo.get_record(zoo.list_models(family=entry.family)[0])
        model = build(entry.family)
        assert entry.layer in {type(module).__name__ for module in model.modules()}
        assert all(entries()[key] in bibtex_of(record) for key in entry.keys)


@pytest.mark.parametrize("family", zoo.list_families())
def test_every_family_can_be_cited(family: str) -> None:
    record = zoo.get_record(zoo.list_models(family=family)[0])
    assert bibtex_of(record).startswith("@")


def test_sources_and_parts_are_recognised() -> None:
    assert source_url("arXiv:2103.10697, table 1") == "https://arxiv.org/abs/2103.10697"
    assert source_url("README of github.com/ma-xu/FCViT") == "https://github.com/ma-xu/FCViT"
    assert source_url("measured: `convattn evaluate`") is None
    assert split_of("digits/test") == "test"
    assert split_of("ImageNet-1k validation") == "validation"
    assert split_of("a test of ours") is None


def test_names_that_others_chose_mean_nothing_in_a_card(tmp_path: Path) -> None:
    facts = facts_of(NANO, tmp_path)
    names = ("a|b", "<img src=x>", "*s* _u_ snake_case", "two\nlines", "`t`", "猫")
    text = render(replace(facts, cfg=replace(facts.cfg, num_classes=6, labels=names)))
    line = next(line for line in text.splitlines() if line.startswith("| classes |"))
    shown = r"a\|b, \<img src=x\>, \*s\* \_u\_ snake_case, two lines, \`t\`, 猫"
    assert line == f"| classes | 6: {shown} |"
    known = [name for key in ("imagenet1k", "digits") for name in read_labels(key)]
    assert [plain(name) for name in known] == known


def test_a_grey_models_snippets_open_grey_images(tmp_path: Path) -> None:
    facts = facts_of(NANO, tmp_path)
    spec = replace(facts.cfg.input, in_chans=1, mean=(0.5,), std=(0.5,))
    text = section(render(replace(facts, cfg=replace(facts.cfg, input=spec))), "Use")
    assert (text.count('.convert("L")'), text.count('.convert("RGB")')) == (2, 0)
    assert "pipeline(" not in text  # its processor of timm's models makes three channels


def test_weights_without_a_classifier_are_offered_as_features_only(tmp_path: Path) -> None:
    facts = facts_of(NANO, tmp_path)
    cfg = replace(facts.cfg, num_classes=0, labels=())
    text = render(replace(facts, cfg=cfg, repo="org/features"))
    assert "into features; they have no classifier." in text
    use = section(text, "Use")
    assert use.count("```python") == 1
    assert 'zoo.from_pretrained("org/features"' in use
    assert not re.search(r"label|argmax|logits|classif(y|ication)", use)
