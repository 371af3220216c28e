"""A bundle carries its card: the same text, its pictures and the Hub's results beside it."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import export
import zoo
from export.cards import bundle_facts, check_card, render_card
from export.parity.report import read_report
from export.publishing.checks import sign_off
from zoo.catalog.weights_records import Metric
from zoo.errors import IntegrityError
from zoo.factory.create import create_random
from zoo.files.manifest import read_manifest

from .conftest import NANO

FEW: dict[str, Any] = {"formats": ("onnx",), "precisions": ()}
METRIC = Metric(name="acc1_percent", value=12.5, dataset="a test", source="made up for it")


@pytest.fixture
def bundle(measured: Path, tmp_path: Path) -> Path:
    model = zoo.create_model(NANO, pretrained=True)
    export.write_bundle(model, tmp_path / "bundle", measured=measured, repo="org/nano", **FEW)
    return tmp_path / "bundle"


def test_a_bundle_with_measured_files_holds_the_whole_card(bundle: Path) -> None:
    text = (bundle / "README.md").read_text(encoding="utf-8")
    check_card(text)
    linked = set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text))
    assert linked == {
        f"images/{name}.png"
        for name in ("architecture", "reliability", "confusion", "gates", "attention")
    }
    paths = set(read_manifest(bundle).paths)
    assert linked <= paths
    assert ".eval_results/digits.yaml" in paths
    assert "| onnx/model.onnx | float32 | CPUExecutionProvider |" in text
    splits = [r.dataset_split for r in ModelCard(text).data.eval_results or ()]
    assert splits == ["validation", "test"]
    tag = f"v{zoo.get_record(NANO).selected.version}"
    assert sign_off(bundle, "org/nano", tag).manifest.name == NANO


def test_a_bundle_of_weights_that_were_not_measured_is_refused(
    measured: Path, tmp_path: Path
) -> None:
    path = measured / NANO / "accuracy.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "weights_sha256": "0" * 64}))
    with pytest.raises(IntegrityError, match="measured on weights with SHA-256 0000"):
        export.write_bundle(
            zoo.create_model(NANO, pretrained=True), tmp_path / "bundle", measured=measured, **FEW
        )
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_without_matplotlib_has_no_pictures_and_links_none(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    model = zoo.create_model(NANO, pretrained=True)
    export.write_bundle(model, tmp_path / "bundle", measured=measured, **FEW)
    assert not (tmp_path / "bundle" / "images").exists()
    assert "![" not in (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")


def test_the_card_of_own_weights_claims_nothing_of_the_registered_ones(exported: Path) -> None:
    report = read_report(exported / "parity.json")
    model = create_random("convit_nano", 0)
    cfg = replace(model.pretrained_cfg, tag="photos", version="2.0.0", sha256="f" * 64, labels=())
    facts = bundle_facts(cfg, zoo.get_record("convit_nano"), report, [METRIC], repo="org/mine")
    text = render_card(facts)
    check_card(text)
    assert "# convit_nano.photos" in text
    assert "scikit-learn" not in text
    assert "create_model(" in text
    assert 'zoo.create_model("' not in text
    assert 'zoo.from_pretrained("org/mine", revision="v2.0.0")' in text
    assert "hf-hub:org/mine@v2.0.0" in text
    assert "| top-1 accuracy, % | 12.5 | a test | made up for it |" in text
    assert "How these weights were trained is not recorded." in text


def test_the_same_tag_with_other_bytes_is_not_the_record(exported: Path) -> None:
    report = read_report(exported / "parity.json")
    record = zoo.get_record(NANO)
    cfg = zoo.create_model(NANO, pretrained=True).pretrained_cfg
    same = bundle_facts(cfg, record, report)
    other = bundle_facts(replace(cfg, sha256="f" * 64), record, report)
    assert same.record is not None
    assert other.record is not None
    assert same.record.selected == record.selected
    assert other.record.selected is None


def test_a_model_of_timm_has_a_card_without_our_record(exported: Path) -> None:
    report = read_report(exported / "parity.json")
    cfg = replace(
        create_random("convit_nano", 0).pretrained_cfg, architecture="timm:resnet18", tag="a1_in1k"
    )
    text = render_card(bundle_facts(cfg, None, report, [METRIC]))
    assert "`resnet18`, an architecture of timm." in text
    assert ModelCard(text).data.library_name == "timm"
    assert "See timm." in text
