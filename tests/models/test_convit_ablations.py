"""ConViT's ablations are keyword settings: docs/ablations.md is read here, row by row."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from tests.reference.naive import on_one_thread
from zoo.errors import ConfigError
from zoo.layers.attention import MultiHeadSelfAttention
from zoo.layers.gpsa import GatedPositionalSelfAttention
from zoo.models.convit import ConViT

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "ablations.md"
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 4}
SMALL |= {"num_classes": 5, "local_up_to_layer": 2}
ATTENTION = {"qk.weight", "v.weight", "proj.weight", "proj.bias"}
POSITION = {"pos_proj.weight", "pos_proj.bias"}
GATES = {"gating_param"}


def _rows() -> dict[str, dict[str, Any]]:
    """Letter of table 3 -> train gating, conv init, train GPSA, use GPSA and the keywords."""
    found = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch("[a-g]", cells[0]):
            marks = [{"yes": True, "no": False}[cell] for cell in cells[1:5]]
            found[cells[0]] = {"marks": marks, "keywords": json.loads(cells[5].strip("`"))}
    return found


ROWS = _rows()
EXTRA = re.findall(r"\| `(\{.*?\})` \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)


def small(**keywords: Any) -> ConViT:
    torch.manual_seed(0)
    return ConViT(**{**SMALL, **keywords})


def images(batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def gpsa_layers(model: nn.Module) -> dict[str, GatedPositionalSelfAttention]:
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, GatedPositionalSelfAttention)
    }


def trainable(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


def step(model: nn.Module) -> dict[str, Tensor]:
    """One AdamW step on a classification loss; the state before it."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05)
    loss = F.cross_entropy(model.train()(images()), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    return before


def test_all_rows_of_table_3_are_documented() -> None:
    assert sorted(ROWS) == list("abcdefg")
    assert ROWS["a"]["keywords"] == {}
    assert len(EXTRA) == 5


@pytest.mark.parametrize("row", sorted(ROWS))
def test_a_row_builds_from_its_keywords(row: str) -> None:
    with torch.device("meta"):
        model = zoo.create_model("convit_small_plus", **ROWS[row]["keywords"])
        full = zoo.create_model("convit_small_plus")
    assert len(gpsa_layers(model)) == (0 if row == "e" else 10)
    if row != "e":
        assert list(model.state_dict()) == list(full.state_dict())


@pytest.mark.parametrize("row", sorted(set(ROWS) - {"e"}))
def test_a_row_trains_the_parameters_that_the_table_says(row: str) -> None:
    train_gating, _, train_gpsa, _ = ROWS[row]["marks"]
    model = small(**ROWS[row]["keywords"])
    expected = (ATTENTION | POSITION if train_gpsa else set()) | (GATES if train_gating else set())
    layers = gpsa_layers(model)
    assert list(layers) == ["blocks.0.attn", "blocks.1.attn"]
    for layer in layers.values():
        assert trainable(layer) == expected
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all(name.startswith(tuple(layers)) for name in frozen)


@pytest.mark.parametrize("row", sorted(ROWS))
def test_a_row_starts_as_the_table_says(row: str) -> None:
    train_gating, conv_init, _, use_gpsa = ROWS[row]["marks"]
    layers = gpsa_layers(small(**ROWS[row]["keywords"])).values()
    assert bool(layers) == use_gpsa
    for layer in layers:
        assert torch.equal(layer.v.weight, torch.eye(16)) == conv_init
        assert (layer.pos_proj.weight[:, 2] == -1).all() == conv_init
        assert layer.gating_param.tolist() == [1.0 if train_gating else 0.0] * 4


@pytest.mark.parametrize("row", sorted(ROWS))
def test_a_row_trains_one_step_and_leaves_what_is_frozen(row: str) -> None:
    model = small(**ROWS[row]["keywords"])
    before, moves = step(model), trainable(model)
    for key, value in model.state_dict().items():
        if key not in moves:
            assert torch.equal(value, before[key]), key
        elif not key.endswith("pos_proj.bias"):  # the softmax cancels it
            assert not torch.equal(value, before[key]), key


def test_the_deit_row_is_plain_self_attention_everywhere() -> None:
    blocks = small(**ROWS["e"]["keywords"]).blocks
    assert all(isinstance(block.attn, MultiHeadSelfAttention) for block in blocks)


@pytest.mark.parametrize("keywords", [json.loads(text) for text in EXTRA], ids=EXTRA)
def test_the_further_settings_build_and_train(keywords: dict[str, Any]) -> None:
    step(small(**keywords))


def test_fixed_gates_keep_their_value_and_their_key() -> None:
    model = small(gating="fixed", gate_init=-2.0)
    step(model)
    for layer in gpsa_layers(model).values():
        assert layer.state_dict()["gating_param"].tolist() == [-2.0] * 4


def test_without_gates_there_is_no_such_key() -> None:
    model = small(gating="none")
    keys = [key for key in small().state_dict() if "gating_param" not in key]
    assert list(model.state_dict()) == keys
    assert len(keys) == len(small().state_dict()) - 2


def test_frozen_positions_leave_content_to_be_trained() -> None:
    for layer in gpsa_layers(small(freeze_gpsa="position")).values():
        assert trainable(layer) == ATTENTION
    for layer in gpsa_layers(small(freeze_gpsa="position", gating="none")).values():
        assert trainable(layer) == ATTENTION


def test_frozen_models_compute_what_trained_ones_do_from_the_same_state() -> None:
    model, x = small().eval(), images()
    for keywords in ({"gating": "fixed"}, {"freeze_gpsa": "layer"}, {"freeze_gpsa": "position"}):
        other = small(**keywords).eval()
        other.load_state_dict(model.state_dict(), strict=True)
        assert torch.equal(other(x), model(x))


def test_loading_with_assign_and_copying_keep_parameters_frozen() -> None:
    model = small(freeze_gpsa="layer")
    with torch.device("meta"):
        other = small(freeze_gpsa="layer")
    other.load_state_dict(model.state_dict(), assign=True)
    assert trainable(other) == trainable(model)


@pytest.mark.parametrize("gating", ["fixed", "none"])
def test_settings_of_the_gates_run_at_any_size_and_export(gating: str) -> None:
    model = small(gating=gating).eval()
    assert model(torch.randn(2, 3, 37, 53)).shape == (2, 5)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (images(2),), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(images()), model(images()), rtol=1e-5, atol=1e-6)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="gating must be one of"):
        zoo.create_model("convit_nano", gating="off")
    with pytest.raises(ConfigError, match="freeze must be one of"):
        zoo.create_model("convit_nano", freeze_gpsa="gates")
