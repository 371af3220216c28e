"""The pictures of a card: which ones, of which weights, and what happens when one cannot be."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

import zoo
from export.cards import figures as card_figures
from export.cards.architecture import outline, shape_text
from export.cards.document import write_card
from export.cards.facts import facts_of
from export.cards.figures import INDEX, draw_pictures, read_pictures
from zoo.errors import (
    AnalysisError,
    ConfigError,
    IntegrityError,
    MissingDependencyError,
    ResourceError,
)

from ...contract.helpers import images, tiny
from .conftest import CARDS, NANO


@pytest.mark.parametrize("family", zoo.list_families())
def test_an_outline_counts_every_parameter_once_and_ends_at_the_logits(family: str) -> None:
    model = tiny(family)
    steps = outline(model, images(family, batch=1))
    assert sum(step.params for step in steps) == sum(p.numel() for p in model.parameters())
    assert steps[-1].shape == (model.num_classes,)
    assert all(step.parts for step in steps)
    assert len({name for step in steps for name in step.names}) == len(zoo.to_blocks(model))


def test_equal_steps_are_drawn_once() -> None:
    model = zoo.create_model("convit_nano").eval()
    steps = outline(model, torch.zeros(1, 3, 32, 32))
    gpsa = steps[1]
    assert gpsa.names == ("blocks.0", "blocks.1", "blocks.2")
    assert gpsa.parts == ("GatedPositionalSelfAttention", "Mlp")
    assert (gpsa.kind, shape_text(gpsa.shape)) == ("attention", "64 tokens x 96")
    assert shape_text((96, 8, 8)) == "96 x 8 x 8"


def test_convit_shows_gates_and_attention(measured: Path, tmp_path: Path) -> None:
    facts = facts_of(NANO, measured)
    model = zoo.create_model(NANO, pretrained=True).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.png").write_bytes(b"of an earlier card")
    drawn = draw_pictures(facts, tmp_path / "out", model)
    files = {picture.file for picture in drawn}
    assert files == {
        "architecture.png", "reliability.png", "confusion.png", "gates.png", "attention.png"
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "out").iterdir()} == files | {INDEX}
    assert read_pictures(tmp_path / "out", facts) == drawn
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "inside"),
    [
        ("resnet_nano", set()),
        ("fcvit_nano", {"similarity.png"}),
        ("alternet_nano", {"attention.png"}),
    ],
)
def test_what_a_model_has_nothing_to_show_for_is_left_out(
    model: str, inside: set[str], tmp_path: Path
) -> None:
    from dataclasses import replace

    from zoo.catalog.tables import read_labels

    network = zoo.create_model(model).eval()
    facts = facts_of(NANO, tmp_path)
    cfg = replace(network.pretrained_cfg, tag="random", labels=read_labels("digits"))
    facts = replace(facts, cfg=cfg, record=zoo.get_record(model))
    drawn = draw_pictures(facts, tmp_path / "out", network)
    assert {picture.file for picture in drawn} == {"architecture.png"} | inside


def test_pictures_of_other_weights_are_refused(measured: Path, tmp_path: Path) -> None:
    shutil.copytree(CARDS / "images" / NANO, tmp_path / "images")
    facts = facts_of(NANO, measured)
    assert read_pictures(tmp_path / "absent", facts) == ()
    assert read_pictures(tmp_path / "images", facts)
    (tmp_path / "images" / "gates.png").unlink()
    with pytest.raises(IntegrityError, match=r"lacks gates\.png; draw again"):
        read_pictures(tmp_path / "images", facts)
    path = tmp_path / "images" / INDEX
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "weights_sha256": "0" * 64, "pictures": []}))
    with pytest.raises(IntegrityError, match="shows other weights; draw again"):
        read_pictures(tmp_path / "images", facts)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="no list of pictures"):
        read_pictures(tmp_path / "images", facts)


def test_without_matplotlib_the_extra_is_named(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"convattn-zoo\[analysis\]"):
        write_card(NANO, measured, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.png"))
    assert not (tmp_path / "out" / f"{NANO}.md").exists()


def test_a_picture_that_fails_or_is_too_large_stops_the_card(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_figures, "MAX_BYTES", 10)
    with pytest.raises(ResourceError, match=r"architecture\.png has .* bytes, at most 10"):
        write_card(NANO, measured, tmp_path / "out")
    monkeypatch.undo()

    def broken(*_: object) -> None:
        raise AnalysisError("values are not finite", code="not_finite")

    monkeypatch.setattr(card_figures, "_attention", broken)
    with pytest.raises(AnalysisError, match="not finite"):
        write_card(NANO, measured, tmp_path / "out")
    assert not (tmp_path / "out" / f"{NANO}.md").exists()
    assert not (tmp_path / "out" / "images" / NANO / INDEX).exists()


@pytest.mark.parametrize("name", ["alternet_nano", "hdvw_swin_nano"])
def test_windows_are_those_around_the_query(name: str) -> None:
    """Each layer's own weights: the query's row is the one of its place in its window."""
    from zoo.analysis._attention_layers import collect_attention
    from zoo.analysis.attention import query_attention

    model = zoo.create_model(name).eval()
    x = torch.randn(1, 3, 32, 32)
    weights = collect_attention(model, x)
    modules = dict(model.named_modules())
    for layer in query_attention(model, x, None, query=(0.5, 0.8)).layers:
        height, width = layer.grid
        places = torch.arange(height * width).reshape(1, 1, height, width)
        shift = getattr(modules[layer.name], "shift", 0)
        rolled = places.roll((-shift, -shift), (2, 3))
        windows = rolled.unfold(2, 4, 4).unfold(3, 4, 4).reshape(-1, 16)  # row by row
        wanted = layer.query[0] * width + layer.query[1]
        [[window, inside]] = (windows == wanted).nonzero().tolist()
        expected = weights[layer.name][window][:, inside].reshape(-1, 4, 4)
        assert layer.query == (height // 2, int(0.8 * width))
        assert not layer.whole
        assert torch.equal(torch.tensor(layer.maps), expected)
