"""Attention studies against matrices with known answers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from tests.analysis.models import Classifier, FixedAttention, batches
from zoo.analysis._attention_layers import Layout, collect_attention
from zoo.analysis.attention import query_attention
from zoo.analysis.gates import gate_study, read_diagnostics
from zoo.analysis.nonlocality import (
    grid_distances,
    key_distances,
    nonlocality,
    nonlocality_study,
)
from zoo.analysis.similarity import row_numbers, similarity_study
from zoo.analysis.specificity import TwoWayVariance, specificity_study
from zoo.errors import AnalysisError


def _study(matrix: torch.Tensor) -> float:
    model = Classifier(FixedAttention(matrix[None]))
    return nonlocality_study(model, batches()).layers[0].heads[0].mean


def test_identity_attention_is_local() -> None:
    assert _study(torch.eye(64)) == 0.0


def test_uniform_attention_has_the_mean_distance_of_the_grid() -> None:
    mean = np.mean([np.hypot(a - c, b - d) for a, b, c, d in itertools.product(range(8), repeat=4)])
    assert _study(torch.full((64, 64), 1 / 64)) == pytest.approx(mean, rel=1e-6)
    study = nonlocality_study(Classifier(FixedAttention(torch.eye(64)[None])), batches())
    assert study.layers[0].uniform == pytest.approx(mean, rel=1e-6)


def test_a_strided_key_lies_in_the_middle_of_what_it_covers() -> None:
    """4 x 4 queries, 2 x 2 keys at (0.5, 0.5), (0.5, 2.5), (2.5, 0.5) and (2.5, 2.5)."""
    found = key_distances(Layout("global", (4, 4), step=2), 4, torch.zeros(1, dtype=torch.float64))
    keys = list(itertools.product((0.5, 2.5), repeat=2))
    expected = [[np.hypot(y - a, x - b) for a, b in keys] for y in range(4) for x in range(4)]
    assert found.numpy() == pytest.approx(np.asarray(expected), abs=1e-6)


def test_a_convolution_initialised_layer_attends_at_its_offsets() -> None:
    """With a large locality strength every head attends to exactly one neighbour (9 heads, 3 x 3),
    so away from the border its distance is that of the neighbour.
    """
    model = zoo.create_model("convit_nano", embed_dim=36, num_heads=9, locality_strength=20.0)
    gate = gate_study(model, (8, 8)).layers[0]
    expected = sorted(np.hypot(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
    assert sorted(gate.reach) == pytest.approx(expected, abs=1e-5)
    assert gate.gates == pytest.approx([torch.tensor(1.0).sigmoid().item()] * 9)
    for head, reach in zip(gate.position, gate.reach, strict=True):
        y, x = np.unravel_index(np.argmax(head), (8, 8))
        assert np.hypot(y - 4, x - 4) == pytest.approx(reach, abs=1e-5)
        assert np.sum(head) == pytest.approx(1, abs=1e-5)


def test_layers_get_their_true_inputs_or_the_embedding() -> None:
    model = zoo.create_model("convit_nano", pretrained=True).eval()
    x = torch.randn(2, 3, 32, 32)
    true = nonlocality_study(model, [x])
    fed = nonlocality_study(model, [x], feed="patch_embed")
    with torch.no_grad():
        embedded = model.patch_embed(x)
        expected = nonlocality(model.blocks[2].attn.attention_weights(embedded, (8, 8)), (8, 8))
    found = [head.mean for head in fed.layers[2].heads]
    assert found == pytest.approx(expected.tolist(), rel=1e-5)
    assert [head.mean for head in true.layers[2].heads] != pytest.approx(found, rel=1e-3)
    assert "patch_embed" in fed.definition
    assert "true inputs" in true.definition


def test_the_class_token_is_left_out_and_rows_sum_to_one_again() -> None:
    model = zoo.create_model("convit_nano", pretrained=True).eval()
    x = torch.randn(2, 3, 32, 32)
    weights = collect_attention(model, x)["blocks.3.attn"]  # with class token: (2, nh, 65, 65)
    patches = weights[:, :, 1:, 1:]
    patches = patches / patches.sum(-1, keepdim=True)
    expected = (patches * grid_distances((8, 8))).sum(-1).mean((0, 2))
    found = [head.mean for head in nonlocality_study(model, [x]).layers[3].heads]
    assert found == pytest.approx(expected.tolist(), rel=1e-5)


def test_windows_and_neighbourhoods_are_measured_in_their_own_offsets() -> None:
    model = zoo.create_model("conv_attention_vit_nano", pretrained=True)
    layer = nonlocality_study(model, [torch.randn(2, 3, 32, 32)]).layers[0]
    assert layer.uniform == pytest.approx((4 + 4 * 2**0.5) / 9)
    windows = nonlocality_study(zoo.create_model("alternet_nano"), [torch.randn(2, 3, 32, 32)])
    assert windows.layers[0].uniform == pytest.approx(float(grid_distances((4, 4)).mean()))


def test_equal_rows_are_similar_and_one_key_is_sparse() -> None:
    same = torch.full((1, 2, 20, 20), 1 / 20)
    numbers = row_numbers(same)[0, 0]
    assert numbers.tolist() == pytest.approx([1, 1, 1, 0.1], abs=1e-5)
    one = torch.eye(20).expand(1, 2, 20, 20)
    assert row_numbers(one)[0, 0].tolist() == pytest.approx([0, 1, 0, 1], abs=1e-5)


def test_pairwise_cosines_equal_the_double_loop() -> None:
    rows = torch.rand(1, 1, 7, 9, dtype=torch.float64)
    unit = rows[0, 0] / rows[0, 0].norm(dim=-1, keepdim=True)
    expected = np.mean([float(unit[i] @ unit[j]) for i in range(7) for j in range(7) if i != j])
    assert float(row_numbers(rows)[0, 0, 0]) == pytest.approx(expected, rel=1e-12)


def test_shares_of_variance_are_those_of_known_arrays() -> None:
    by_place = torch.randn(1, 5, 3, dtype=torch.float64).expand(6, 5, 3)
    by_image = torch.randn(6, 1, 3, dtype=torch.float64).expand(6, 5, 3)
    for x, expected in ((by_place, (0, 1)), (by_image, (1, 0))):
        variance = TwoWayVariance()
        variance.add(x[:2])
        variance.add(x[2:])
        shares = [float(share) for share in variance.shares()]
        assert shares == pytest.approx(expected, abs=1e-9)
    x = torch.randn(6, 5, 3, dtype=torch.float64)
    variance = TwoWayVariance()
    variance.add(x)
    total = x.flatten(0, 1).var(0, correction=0).sum()
    images = x.var(0, correction=0).mean(0).sum() / total
    queries = x.var(1, correction=0).mean(0).sum() / total
    assert [float(s) for s in variance.shares()] == pytest.approx([float(images), float(queries)])


def test_fixed_attention_is_not_data_specific() -> None:
    model = Classifier(FixedAttention(torch.rand(2, 64, 64).softmax(-1)))
    found = specificity_study(model, batches())
    assert max(share.image_share for share in found.attention) < 1e-6


def test_a_model_without_attention_is_refused_by_name() -> None:
    model = Classifier(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()))
    with pytest.raises(AnalysisError, match="Classifier has no attention layers"):
        nonlocality_study(model, batches())
    with pytest.raises(AnalysisError, match="has no gated positional attention"):
        gate_study(model, (8, 8), "cnn")


def test_global_contexts_have_similarity_maps() -> None:
    model = zoo.create_model("fcvit_nano")
    found = similarity_study(model, [torch.randn(2, 3, 32, 32)])
    with torch.no_grad():
        expected = model.eval().similarity_maps(torch.randn(1, 3, 32, 32))
    assert len(found.contexts[-1].maps) == expected[-1].shape[1]
    assert not found.heads


def test_attention_of_a_query_is_its_row() -> None:
    matrix = torch.rand(1, 64, 64).softmax(-1)
    model = Classifier(FixedAttention(matrix))
    found = query_attention(model, batches()[0][0][:1], [[0]], (0.25, 0.5))
    assert found.layers[0].query == (2, 4)
    assert np.ravel(found.layers[0].maps[0]) == pytest.approx(matrix[0, 20].tolist())
    with pytest.raises(AnalysisError, match="one image and a query of two shares"):
        query_attention(model, batches()[0][0], [[0]])


def test_diagnostics_are_read_and_damaged_lines_named(tmp_path: Path) -> None:
    assert read_diagnostics(tmp_path) == ()
    line = {"epoch": 1, "layers": [{"name": "a", "gates": [0.5], "nonlocality": [1.0]}]}
    vit = {"epoch": 2, "layers": [{"name": "a", "gates": None, "nonlocality": [2.0]}]}
    log = tmp_path / "diagnostics.jsonl"
    log.write_text(f"{json.dumps(line)}\n{json.dumps(vit)}\n")
    first, second = read_diagnostics(tmp_path)
    assert (first.epoch, first.gates, second.gates, second.nonlocality) == (1, (0.5,), None, (2.0,))
    log.write_text(json.dumps(line) + "\n{broken\n")
    with pytest.raises(AnalysisError, match=r"line 2 of .* is no line of a log of gates"):
        read_diagnostics(tmp_path)
