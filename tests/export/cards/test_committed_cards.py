"""The cards in the repository are what the records and the measured files make of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from export.cards.document import EVAL_RESULTS, IMAGES, cards, stored_card
from export.cards.facts import facts_of
from export.cards.figures import INDEX, MAX_BYTES, read_pictures
from export.cards.index import index
from export.cards.metadata import eval_results

from .conftest import CARDS, MEASURED


@pytest.mark.parametrize("name", cards())
def test_a_card_is_rendered_and_not_edited(name: str) -> None:
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert text == stored_card(name, MEASURED, CARDS), "run `make cards`"


@pytest.mark.parametrize("name", cards())
def test_the_eval_results_of_a_card_are_rendered_and_not_edited(name: str) -> None:
    stored = {p.name: p.read_text("utf-8") for p in (CARDS / EVAL_RESULTS / name).iterdir()}
    assert stored == eval_results(facts_of(name, MEASURED)), "run `make cards`"


def test_the_index_is_rendered_and_not_edited() -> None:
    text = (CARDS / "README.md").read_text(encoding="utf-8")
    assert text == index(MEASURED), "run `make cards`"


def test_there_is_a_card_for_all_weights_that_load_and_for_no_others() -> None:
    written = {path.stem for path in CARDS.glob("*.md")} - {"README"}
    assert written == set(cards())
    for folder in (IMAGES, EVAL_RESULTS):
        assert {path.name for path in (CARDS / folder).iterdir()} <= set(cards())


@pytest.mark.parametrize("name", cards())
def test_every_picture_is_in_the_card_is_a_png_and_is_small(name: str) -> None:
    folder = CARDS / IMAGES / name
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    pictures = read_pictures(folder, facts_of(name, MEASURED))
    assert {p.file for p in pictures} == {p.name for p in folder.iterdir()} - {INDEX}
    for picture in pictures:
        data = (folder / picture.file).read_bytes()
        width, height = struct.unpack(">II", data[16:24])
        assert data.startswith(b"\x89PNG")
        assert len(data) <= MAX_BYTES
        assert 300 < width < 1400
        assert 200 < height < 1400
        assert text.count(f"({IMAGES}/{name}/{picture.file})") == 1


@pytest.mark.parametrize("name", cards())
def test_every_link_of_a_card_leads_somewhere(name: str) -> None:
    import re

    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (CARDS / target).exists(), target


@pytest.mark.parametrize("name", cards())
def test_every_accuracy_in_the_index_of_results_stands_in_a_file(name: str) -> None:
    from huggingface_hub import ModelCard

    path = MEASURED / name / "accuracy.json"
    data = ModelCard((CARDS / f"{name}.md").read_text(encoding="utf-8")).data
    found = [float(result.metric_value) for result in data.eval_results or ()]
    if path.is_file():
        results = json.loads(Path(path).read_text("utf-8"))["results"]
        assert found == pytest.approx([part["acc1_percent"] / 100 for part in results.values()])
    else:
        published = facts_of(name, MEASURED).published
        assert set(found) <= {round(metric.value / 100, 5) for metric in published}
