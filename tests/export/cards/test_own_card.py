"""The card of a model trained on one's own folder: what the run measured, what its owner says, and
snippets that run as they stand in the repository that the reader stands on.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import export
import zoo
from export.cards import with_repo
from export.cards.own_run import OwnRun, read_own_run
from export.cards.usage import IMAGE
from export.publishing.checks import sign_off
from zoo.errors import ConfigError, IntegrityError
from zoo.files import card_text
from zoo.training.run import train_model

from ...hub.client import ROOT, TOKEN, publish
from ...hub.server import HubServer
from ...training.helpers import SMALL, digits_job, write_folder
from .test_usage import run

WORDS = """
Not read.

## Data
Noise around three colours, made by the tests. See <https://example.org/colours>.

## Intended use
Testing; accuracy < 100 % is fine.

## Licence of the data
CC0 | public domain
"""
REPO = "someone/colours"
FEW: dict[str, Any] = {"formats": ("onnx",), "precisions": ()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on three colours, from the weights of another one."""
    root = tmp_path_factory.mktemp("own")
    photos = write_folder(root / "photos")
    (photos / "red" / "broken.png").write_bytes(b"not an image")
    how: dict[str, Any] = {"data": str(photos), "fraction": 1.0, "batch_size": 6, "config": {}}
    job = digits_job(**how, finetune_from="convit_nano", on_unreadable="skip")
    train_model(job, root / "run")
    return root / "run"


@pytest.fixture(scope="module")
def bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle, for no repository yet."""
    out = tmp_path_factory.mktemp("bundles") / "colours"
    run = Path(shutil.copytree(trained, out.parent / "run"))
    (run / card_text.FILE).write_text(WORDS)
    model = zoo.create_model(str(run), pretrained=True)
    export.write_bundle(model, out, run=run, version="1.0.0", licence="mit", **FEW)
    return out


def test_a_run_drafts_what_its_owner_must_say_and_a_bundle_refuses_the_draft(trained: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 6: <Where the 30 images come from") as error:
        card_text.read_card_text(trained / card_text.FILE)
    assert error.value.code == "card_text"
    model = zoo.create_model(str(trained), pretrained=True)
    with pytest.raises(ConfigError, match=r"CARD\.md', line 6"):
        export.write_bundle(model, trained.parent / "no", run=trained, **FEW)
    assert not (trained.parent / "no").exists()


def test_the_card_tells_what_the_run_measured(trained: Path, bundle: Path) -> None:
    text = (bundle / "README.md").read_text(encoding="utf-8")
    metrics = json.loads((trained / "metrics.json").read_text())
    test = metrics["test"]
    low, high = test["interval95_percent"]
    shown = f"**{test['acc1_percent']:.2f}** ({test['correct']} of {test['total']}; 95 %: {low:.1f}"
    assert shown in text
    assert f"{high:.1f}" in text
    train, *others = metrics["images"].values()
    assert f"Images of photos: {train} train, {others[0]} validation, {others[1]} test." in text
    assert ", ".join(f"{name} {count}" for name, count in metrics["classes"].items()) in text
    assert "Left out, because they cannot be read: 1." in text
    assert f"fine-tuned from `convit_nano` on {train} images of photos" in text
    assert f"seed {metrics['recipe']['seed']}" in text
    for picture in ("curves", "confusion", "reliability"):
        assert f"(images/{picture}.png)" in text
        assert (bundle / "images" / f"{picture}.png").is_file()


def test_the_card_holds_the_words_of_its_owner(bundle: Path) -> None:
    text = (bundle / "README.md").read_text(encoding="utf-8")
    assert "made by the tests. See <https://example.org/colours>." in text
    assert "Testing; accuracy < 100 % is fine.\n\nLimits:\n\n" in text
    assert "| images | CC0 \\| public domain | the publisher of this bundle |" in text
    assert "Not read" not in text
    assert "## Contact" not in text


def test_the_metadata_name_data_start_and_accuracy_as_the_hub_does(
    trained: Path, bundle: Path
) -> None:
    data = ModelCard((bundle / "README.md").read_text(encoding="utf-8")).data
    test = json.loads((trained / "metrics.json").read_text())["test"]
    assert (data.base_model, data.datasets) == ("convit_nano.digits", ["photos"])
    *_, last = data.eval_results or ()
    assert (last.metric_type, last.metric_name) == ("accuracy", "Accuracy")
    assert last.metric_value == pytest.approx(test["correct"] / test["total"], abs=1e-5)
    assert (last.dataset_type, last.dataset_split) == ("photos", "test")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("", None),
        ("convit_nano.digits@1.1.0", "convit_nano.digits"),
        ("hf-hub:org/nano@v2", "org/nano"),
        ("convit_tiny", "timm/convit_tiny.fb_in1k"),
        ("earlier_run", None),
    ],
)
def test_the_base_model_is_what_the_hub_can_know(start: str, expected: str | None) -> None:
    assert OwnRun(Path(), {"finetune_from": start}).base_model == expected


def test_metrics_that_were_edited_or_belong_to_other_weights_are_refused(
    trained: Path, tmp_path: Path
) -> None:
    digest = json.loads((trained / "config.json").read_text())["convattn"]["weights_sha256"]
    with pytest.raises(IntegrityError, match="tells of other weights"):
        read_own_run(trained, "0" * 64)
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    path = run / "metrics.json"
    path.write_text(path.read_text().replace('"correct"', '"Correct"'))
    with pytest.raises(IntegrityError, match=r"metrics\.json has SHA-256 .* it was changed"):
        read_own_run(run, digest)
    assert read_own_run(tmp_path, digest) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("## Date\nx", "is no section of a card"),
        ("## Data\nx\n## Data\ny", "occurs twice"),
        ("## Data\nwho <made\nthem>", "line 2: <made them>"),
        ("## Data\n" + "x" * 20_001, "shorten it"),
        ("# Data\nx", "has no sections"),
    ],
)
def test_a_card_text_that_is_not_right_says_why(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "CARD.md").write_text(text)
    with pytest.raises(ConfigError, match=says):
        card_text.read_card_text(tmp_path / "CARD.md")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_card_text_of_any_editor_is_read(ends: str, mark: bytes, tmp_path: Path) -> None:
    (tmp_path / "CARD.md").write_bytes(
        mark + "## Data\nBilder für alle\n".replace("\n", ends).encode()
    )
    assert card_text.read_card_text(tmp_path / "CARD.md") == {"Data": "Bilder für alle"}
    (tmp_path / "CARD.md").write_bytes("## Data\nx".encode("utf-16"))
    with pytest.raises(ConfigError, match="is not UTF-8"):
        card_text.read_card_text(tmp_path / "CARD.md")


def test_training_again_keeps_what_the_owner_wrote(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / card_text.FILE).write_text(WORDS)
    train_model(digits_job(config=SMALL), run, overwrite=True)
    assert (run / card_text.FILE).read_text() == WORDS


def test_classes_called_like_digits_do_not_make_a_folder_the_digits(exported: Path) -> None:
    from export.cards import bundle_facts, render_card
    from export.parity.report import read_report

    cfg = replace(zoo.create_model("convit_nano").pretrained_cfg, tag="plates", sha256="f" * 64)
    facts = bundle_facts(cfg, zoo.get_record("convit_nano"), read_report(exported / "parity.json"))
    assert facts.data is None
    assert "scikit-learn" not in render_card(facts)


def test_another_repository_replaces_the_whole_name_only() -> None:
    text = 'load("a/b") a/b@v1 `a/b`. x/a/b a/b-c a/b.c a/b/c'
    assert with_repo(text, "a/b", "o/n") == 'load("o/n") o/n@v1 `o/n`. x/a/b a/b-c a/b.c a/b/c'


def test_no_placeholder_is_published_and_the_bundle_stays_as_it_was(bundle: Path) -> None:
    before = {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    signed = sign_off(bundle, REPO, "v1.0.0")
    card = signed.read("README.md").decode()
    assert "ORG" not in card
    assert f'zoo.from_pretrained("{REPO}", revision="v1.0.0")' in card
    assert {path: digest for path, _, digest in signed.files}["manifest.json"] == export_digest(
        signed.read("manifest.json")
    )
    assert signed.manifest.digest("README.md") == export_digest(signed.read("README.md"))
    assert json.loads(signed.read("config.json"))["convattn"]["repo"] == REPO
    assert {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()} == before


def export_digest(data: bytes) -> str:
    from zoo.files.local import sha256_bytes

    return sha256_bytes(data)


def published_snippets(card: str) -> list[tuple[str, str, str]]:
    """(heading, language, code) of every snippet under "Use"."""
    section = card.partition("\n## Use\n")[2].partition("\n## ")[0]
    found = []
    for part in re.split(r"\n### |\n(?=\*\*)", section)[1:]:
        heading = part.partition("\n")[0].partition("**")[2].partition("**")[0]
        heading = heading or part.partition("\n")[0]
        found += [(heading, *block) for block in re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL)]
    return found


@pytest.mark.slow
def test_every_snippet_of_a_published_card_runs_where_it_stands(
    hub: HubServer, bundle: Path, tmp_path: Path
) -> None:
    hub.tokens.add(TOKEN)
    ran = publish(tmp_path / "owner", hub.endpoint, bundle, REPO, "v1.0.0")
    assert ran.code == 0, ran.err
    repo = hub.repos[REPO]
    card = repo.commits[repo.refs["v1.0.0"]]["README.md"].decode()
    image = Path(bundle.parent / "run").parent / "red.png"
    from PIL import Image

    Image.new("RGB", (24, 20), (200, 30, 30)).save(image)
    answer = zoo.Predictor.from_model(zoo.create_model(str(bundle), pretrained=True))(image).label
    snippets = published_snippets(card)
    assert [heading for heading, _, _ in snippets] == [
        "from_pretrained", "from_pretrained", "Embeddings", "timm", "ONNX Runtime", "Command line",
        "transformers", "transformers.js",
    ]  # fmt: skip
    for heading, language, code in snippets:
        if language == "js":  # tests/export/gallery/test_transformers.py runs it, with node
            continue
        if "transformers" in code:
            pytest.importorskip("transformers")
        out = run((language, code), tmp_path / "reader", hub.endpoint, image)
        if heading == "Embeddings":
            assert out.split("\n")[0] == "(1, 96)"
        elif heading == "Command line":
            assert re.findall(rf"^{re.escape(IMAGE)} +(\w+) ", out, re.MULTILINE) == [answer] * 2
        elif language == "python":
            assert out.splitlines()[-1] == answer, heading


def test_classes_in_other_scripts_are_numbered_beside_the_pictures() -> None:
    from export.cards.facts import facts_of
    from export.cards.results import metrics_section

    facts = facts_of("convit_nano", ROOT / "model_cards" / "measured")
    assert "Where a picture" not in metrics_section(facts)
    named = replace(facts, cfg=replace(facts.cfg, labels=("cat", "猫")))
    assert "numbers instead of classes: 0 cat, 1 猫." in metrics_section(named)
