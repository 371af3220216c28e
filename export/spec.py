"""What an export must satisfy: opset, batches, and the error that each provider may make."""

from __future__ import annotations

from dataclasses import dataclass

INPUT_NAME = "pixel_values"  # the name that Hugging Face's image models and transformers.js use
OUTPUT_NAME = "logits"


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """Settings of an export and of its parity check.

    Args:
        opset: ONNX operator set; 23 brings the Attention operator.
        batches: batch sizes that are executed before a file gets its name.
        seed: of the noise inputs.
        eager_ratio: an error may be this many times eager float32's own error ...
        eager_slack: ... plus this much of the logit scale, max(1, largest absolute logit),
        absolute: and never more than this much of the logit scale.
        cuda, cuda_tf32: absolute limits on the CUDA provider with TF32 off and on.
        cuda_tf32_top1: share of equal top-1 answers that TF32 must reach.
    """

    opset: int = 23
    batches: tuple[int, ...] = (1, 2, 5)
    seed: int = 0
    eager_ratio: float = 4.0
    eager_slack: float = 1e-6
    absolute: float = 1e-5
    cuda: float = 1e-4
    cuda_tf32: float = 5e-3
    cuda_tf32_top1: float = 0.999
