"""What docs/migration.md says of timm's ConViT and ours; where timm mends it, the page follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import zoo

SMALL = {"depth": 2, "local_up_to_layer": 1}


def theirs(**keywords: Any) -> torch.nn.Module:
    return timm.create_model("convit_tiny", **SMALL, **keywords)


def ours(**keywords: Any) -> torch.nn.Module:
    return zoo.create_model("convit_tiny", **SMALL, **keywords)


def test_images_that_are_not_square() -> None:
    x = torch.randn(1, 3, 224, 160)
    assert ours(img_size=(224, 160)).eval()(x).shape == (1, 1000)
    with pytest.raises(RuntimeError, match="140"):
        theirs(img_size=(224, 160)).eval()(x)


def test_training_after_a_pass_in_inference_mode() -> None:
    def step(model: torch.nn.Module) -> None:
        x = torch.randn(1, 3, 224, 224)
        with torch.inference_mode():
            model.eval()(x)
        model.train()(x).sum().backward()

    step(ours())
    with pytest.raises(RuntimeError, match="Inference tensors"):
        step(theirs())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_declared_sizes_run(tmp_path: Path) -> None:
    import numpy as np
    import onnxruntime
    from timm.utils.onnx import onnx_export

    import export

    onnx_export(
        theirs().eval(), str(tmp_path / "t.onnx"), input_size=(3, 224, 224), dynamic_size=True
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        tmp_path / "t.onnx", options, providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    assert given.shape[2:] == ["height", "width"]
    with pytest.raises(Exception, match="broadcast"):
        session.run(None, {given.name: np.zeros((1, 3, 256, 256), np.float32)})
    report = export.to_onnx(
        ours().eval(), tmp_path / "o.onnx", export.ExportSpec(dynamic_size=True)
    )
    assert report
    assert len({row.size for row in report.rows}) >= 3
