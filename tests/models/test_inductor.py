"""torch.compile with its default backend, for two families; needs a C++ compiler."""

from __future__ import annotations

import shutil

import pytest
import torch

import zoo

NO_COMPILER = not any(shutil.which(name) for name in ("g++", "clang++", "c++"))


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="inductor needs a C++ compiler; none was found")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["convit_nano", "conv_attention_vit_nano"])
def test_inductor_equals_eager(name: str) -> None:
    model = zoo.create_model(name, pretrained=True).eval()
    compiled = torch.compile(model)
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-5)
    torch._dynamo.reset()
