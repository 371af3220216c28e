"""How this processor multiplies bytes, found by multiplying some.

x86 without VNNI adds pairs of products of an unsigned and a signed byte in 16 bits, where they
saturate; a file whose weights are signed bytes answers otherwise on it. Ours have unsigned weights
(`export.graph.int8`), which every processor multiplies exactly.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .builtin import import_runtime

EXACT, SATURATING = "exact", "saturates where weights are signed bytes (no VNNI)"

# An ONNX model of one MatMulInteger, uint8 (M, K) x int8 (K, N) -> int32 (M, N), opset 20, IR 10;
# tests/export/test_int8.py has the lines that build it.
PRODUCT = bytes.fromhex(
    "080a3a680a180a01610a0162120163220d4d61744d756c496e7465676572120770726f647563745a150a"
    "016112100a0e0802120a0a0312016d0a0312016b5a150a016212100a0e0803120a0a0312016b0a031201"
    "6e62150a016312100a0e0806120a0a0312016d0a0312016e42040a001014"
)


@cache
def integer_arithmetic() -> str:
    """ "exact", or in words what saturates: onnxruntime's own product at the end of the range."""
    runtime = import_runtime()
    session = runtime.InferenceSession(PRODUCT, providers=["CPUExecutionProvider"])
    large = np.full((8, 64), 255, np.uint8), np.full((64, 8), 127, np.int8)
    found = session.run(None, dict(zip(("a", "b"), large, strict=True)))[0]
    return EXACT if (found == 64 * 255 * 127).all() else SATURATING
