"""What graphs say differently: equal to eager code, and no idiom that the exporter gets wrong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch.export import Dim

from zoo.layers.exporting import ceil_div, crop, parts_of, prepend_token, roll

from .making import noise

ROOT = Path(__file__).parents[2]
ROOMS = ("zoo/layers", "zoo/models", "export/formats", "export/graph")


class Called(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def exported(function, *args):
    return torch.export.export(Called(function), args).module()(*args)


@pytest.mark.parametrize("b", [1, 2, 7, 16])
def test_ceil_div_rounds_up(b: int) -> None:
    assert [ceil_div(a, b) for a in range(40)] == [len(range(0, a, b)) for a in range(40)]


def test_no_code_that_sees_symbols_rounds_up_by_negation() -> None:
    """torch.onnx writes it as a division that truncates (docs/export.md)."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 40
    found = [
        str(path) for path in files if any(map(_negated, ast.walk(ast.parse(path.read_text()))))
    ]
    assert not found, f"write ceil_div(a, b): {found}"


def _negated(node: ast.AST) -> bool:
    """Whether an expression is -(... // ...)."""
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inner = node.operand if negative else None
    return isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.FloorDiv)


@pytest.mark.slow
def test_torch_onnx_still_truncates_symbolic_divisions() -> None:
    """The reproduction in docs/export.md; when it fails, the exporter is mended: say so there."""
    run = torch.onnx.export(
        Called(lambda x: x.new_ones(-(-x.shape[0] // 4))).eval(),
        (torch.zeros(9),),
        dynamic_shapes=({0: Dim("n", min=2)},),
        verbose=False,
    )
    lengths = [len(run(torch.zeros(n))[0]) for n in (5, 6, 7, 8, 9)]
    assert lengths == [1, 1, 1, 2, 2]  # in Python 2, 2, 2, 2, 3


@pytest.mark.parametrize("shift", [1, 3, -2])
def test_a_rolled_map_is_the_same_in_a_graph(shift: int) -> None:
    x = noise(2, 3, 5, 7)
    wanted = x.roll((-shift, -shift), (2, 3))
    assert torch.equal(roll(x, shift), wanted)
    assert torch.equal(exported(lambda x: roll(x, shift), x), wanted)


def test_a_cropped_map_is_the_same_with_symbols() -> None:
    x = noise(2, 3, 8, 9)
    shapes = ({2: Dim.AUTO, 3: Dim.AUTO},)
    cut = Called(lambda x: crop(x, (x.shape[2] - 2, x.shape[3] - 1)))
    program = torch.export.export(cut, (x,), dynamic_shapes=shapes)
    assert torch.equal(program.module()(noise(2, 3, 6, 12)), noise(2, 3, 6, 12)[:, :, :4, :11])
    assert torch.equal(crop(x, (5, 4)), x[:, :, :5, :4])


def test_a_token_in_front_is_the_same_in_a_graph() -> None:
    token, x = noise(1, 1, 4), noise(3, 5, 4)
    wanted = torch.cat((token.expand(3, 1, 4), x), 1)
    assert torch.equal(prepend_token(token, x), wanted)
    assert torch.equal(exported(lambda x: prepend_token(token, x), x), wanted)


@pytest.mark.parametrize("bias", [True, False])
def test_parts_of_a_projection_are_its_parts(bias: bool) -> None:
    layer, x = torch.nn.Linear(4, 6, bias=bias).double(), noise(2, 5, 4)
    for part, wanted in zip(parts_of(x, layer, 3), layer(x).chunk(3, -1), strict=True):
        torch.testing.assert_close(part, wanted)
