"""What an export must satisfy: opset, batches, and the error that each provider may make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zoo.catalog.frozen import settle
from zoo.errors import ConfigError

INPUT_NAME = "pixel_values"  # the name that Hugging Face's image models and transformers.js use
OUTPUT_NAME = "logits"
OPSETS = range(17, 26)
_WHAT = "export spec"


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """Settings of an export and of its parity check.

    Args:
        opset: ONNX operator set; 23 brings the Attention operator.
        batches: batch sizes that are executed before a file gets its name.
        dynamic_size: height and width vary too. A graph of one of our models pads as the model does
            and takes any number of pixels; other models and formats take multiples of the stride.
        whole_strides: with `dynamic_size`, multiples of the stride in every file: no padding in it.
        img_size: (height, width) to export at; None takes the model's own.
        seed: of the noise inputs.
        eager_ratio: an error may be this many times eager float32's own error ...
        eager_slack: ... plus this much of the logit scale, max(1, largest absolute logit),
        absolute: and never more than this much of the logit scale.
        cuda, cuda_tf32: absolute limits on the CUDA provider with TF32 off and on.
        cuda_tf32_top1: share of equal top-1 answers that TF32 must reach.
        float16, float16_top1: absolute limit and share of equal top-1 answers of float16 files.
        int8_top1_loss: points of accuracy that an int8 file may lose on labelled images.
        int8_relative_l2: an int8 file whose error reaches this share of the logits is broken; the
            files that are published with us stay below 0.1, an answer of zeros has 1.
    Raises: ConfigError; lists, and numbers of numpy, are taken as what they hold.
    """

    opset: int = 23
    batches: tuple[int, ...] = (1, 2, 5)
    dynamic_size: bool = False
    whole_strides: bool = False
    img_size: tuple[int, int] | None = None
    seed: int = 0
    eager_ratio: float = 4.0
    eager_slack: float = 1e-6
    absolute: float = 1e-5
    cuda: float = 1e-4
    cuda_tf32: float = 5e-3
    cuda_tf32_top1: float = 0.999
    float16: float = 1e-2
    float16_top1: float = 0.995
    int8_top1_loss: float = 0.5
    int8_relative_l2: float = 0.5

    def __post_init__(self) -> None:
        settle(self, _WHAT, "config")
        if self.opset not in OPSETS:
            raise ConfigError(
                f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {self.opset}: torch's exporter "
                "writes 18 for any other; 23 is the first with an operator for attention",
                code="opset",
            )
        if self.whole_strides and not self.dynamic_size:
            raise ConfigError("whole_strides is about images of any size; it needs dynamic_size")
        if not self.batches or min(self.batches) < 1:
            raise _refused("batches", "positive integers, at least one", self.batches)
        if self.img_size is not None and min(self.img_size) < 1:
            raise _refused("img_size", "a positive height and width", self.img_size)
        for name in ("seed", "eager_ratio", "eager_slack"):
            if getattr(self, name) < 0:
                raise _refused(name, "at least 0", getattr(self, name))
        for name in ("absolute", "cuda", "cuda_tf32", "float16", "int8_relative_l2"):
            if not getattr(self, name) > 0:
                raise _refused(name, "positive", getattr(self, name))
        for name in ("cuda_tf32_top1", "float16_top1"):
            if not 0 <= getattr(self, name) <= 1:
                raise _refused(name, "in 0 to 1", getattr(self, name))

    def changed(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of these settings that are not the default."""
        usual = ExportSpec()
        return tuple(name for name in names if getattr(self, name) != getattr(usual, name))


def _refused(name: str, wanted: str, value: object) -> ConfigError:
    return ConfigError(f"{_WHAT}: {name} must be {wanted}; got {value!r:.80}")


FORMATS = {
    "onnx": "onnx/model.onnx",
    "torchscript": "model.pt",
    "pt2": "model.pt2",
    "aoti": "model.aoti.pt2",
}
PRECISIONS = {
    "float32": "onnx/model.onnx",
    "float16": "onnx/model_fp16.onnx",
    "int8": "onnx/model_quantized.onnx",
    "int8-static": "onnx/model_int8.onnx",
}
_KINDS = {".onnx": "onnx", ".pt": "torchscript", ".pt2": "pt2"}
SERVING = ("triton",)


def precision_of(file: str) -> str:
    """float32, float16 or int8: the gate for a file of an export directory."""
    found = {name: precision for precision, name in PRECISIONS.items()}.get(file, "float32")
    return found.removesuffix("-static")
