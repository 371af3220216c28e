"""What must come with every family, and the naive twins of whole networks (CONTRIBUTING.md)."""

from __future__ import annotations

import fnmatch
import importlib
import itertools
import json
import re
from pathlib import Path

import pytest

import zoo
from tests.reference.naive import close, gradients
from zoo.catalog.tables import COSTS

from .helpers import FAMILIES, family_of, images, tiny

ROOT = Path(__file__).resolve().parents[2]
TWINS = [n for n in FAMILIES if (ROOT / "tests" / "reference" / f"naive_{n}.py").is_file()]
GROUPS = {
    case["family"]
    for case in json.loads((ROOT / "tests/goldens/manifest.json").read_text("utf-8"))["cases"]
}
each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
def test_a_family_has_golden_cases_or_a_naive_twin(family: str) -> None:
    goldens = family_of(family).goldens
    assert set(goldens) <= GROUPS, f"tests/goldens has no cases {sorted(set(goldens) - GROUPS)}"
    assert goldens or family in TWINS, (
        f"nothing says what {family} must compute: name its golden cases (Family.goldens), or "
        f"write its twin, tests/reference/naive_{family}.py (CONTRIBUTING.md, step 3)"
    )


@pytest.mark.parametrize("family", TWINS)
def test_a_network_equals_its_naive_twin_forward_and_backward(family: str) -> None:
    """`naive_FAMILY.FAMILY(x, state, config)` computes logits from the equations."""
    twin = getattr(importlib.import_module(f"tests.reference.naive_{family}"), family)
    model, x = tiny(family).double(), images(family).double().requires_grad_()
    state = dict(model.state_dict(keep_vars=True))
    expected = twin(x, state, dict(family_of(family).tiny))
    actual = model(x)
    close(actual, expected, 1e-12)
    inputs = [x, *model.parameters()]
    pairs = zip(gradients(actual, inputs), gradients(expected, inputs), strict=True)
    for found, wanted in pairs:
        close(found, wanted, 1e-11)


def _spelled_out(pattern: str) -> list[str]:
    """``a_{b,c}`` -> a_b, a_c."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def _named(text: str) -> set[str]:
    """Families of which a text names a model, or a pattern of models, in code letters."""
    code = re.findall(r"`(?=[^`]*[a-z])([\w*{},.]+)`", text)
    patterns = [pattern for quoted in code for pattern in _spelled_out(quoted)]
    return {
        family
        for family in FAMILIES
        if any(fnmatch.filter(family_of(family).variants, pattern) for pattern in patterns)
    }


def test_patterns_of_names_are_read() -> None:
    assert _named("| `alexnet`, `{,pre}vgg_*` | `convit_{nano,...}` |") == {
        "alexnet", "convit", "prevgg", "vgg",
    }  # fmt: skip
    assert _named("alexnet and `vgg`, `*`") == set()


@each_family
@pytest.mark.parametrize(
    ("file", "part", "what"),
    [
        ("README.md", r"## Models\n(.*?)\n## ", "a row in the table of its section Models"),
        ("CHANGELOG.md", r"(.*)", "a line that names its models"),
    ],
    ids=["README", "CHANGELOG"],
)
def test_a_family_is_announced(family: str, file: str, part: str, what: str) -> None:
    found = re.search(part, (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert family in _named(found[1]), f"{file} lacks {what}, like `{family}_*`"


def test_the_cost_table_covers_every_model() -> None:
    costs = json.loads(COSTS.read_text(encoding="utf-8"))
    plain = [name for name in costs if "." not in name]
    assert sorted(plain) == sorted(zoo.list_models()), "run `make tables`"
    patches = ((28 // 4) ** 2 + 1) * 96 - ((32 // 4) ** 2 + 1) * 96  # the positions of a ViT
    own, model = costs["hdvw_vit_nano.fashion_mnist"], costs["hdvw_vit_nano"]
    assert own["params"] - model["params"] == patches
    assert own["macs"] < model["macs"]


@each_family
def test_the_head_is_the_child_that_head_name_says(family: str) -> None:
    model = tiny(family)
    assert model.head_name in dict(model.named_children()), (
        f"{type(model).__name__}.head_name is {model.head_name!r}, and there is no such child: set "
        'it to the name of the one that turns features into logits, e.g. head_name = "head"'
    )
