"""A bad file of whatever kind is refused in a second and in 3 times its size + 200 MiB."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

ROOT = Path(__file__).parents[2]
# reads each file in one process, whose peak is forgotten before each of them
READER = """
import json, os, sys, time
import torch, timm, onnxruntime, onnx.inliner, onnx.reference
from export.runtime.opening import open_onnx
from zoo.data.cifar_pickles import read_table
from zoo.data.idx import read_idx
from zoo.data.image_reading import read_file
from zoo.evaluation.batch.sources import open_source
from zoo.factory.create import create_model
from zoo.files.manifest import read_manifest
from zoo.files.pins import read_pins
from zoo.weights.foreign.reading import read_checkpoint
from zoo.weights.safetensors_file import read_tensors
readers = {
    "checkpoint": lambda f: read_checkpoint(open(f, "rb").read(), f),
    "safetensors": lambda f: read_tensors(open(f, "rb").read(), f),
    "image": read_file, "onnx": open_onnx,
    "idx": lambda f: read_idx(f, 3),
    "table": lambda f: read_table(open(f, "rb").read(), f),
    "manifest": lambda f: read_manifest(os.path.dirname(f)),
    "config": lambda f: create_model(os.path.dirname(f), pretrained=True),
    "pins": lambda f: (os.environ.update(CONVATTN_HOME=os.path.dirname(f)), read_pins()),
    "tar": lambda f: list(open_source([f], "")),
}
create_model("timm:resnet18"), create_model("convit_nano", pretrained=True)
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
for line in sys.stdin:
    kind, name, file = json.loads(line)
    with open("/proc/self/clear_refs", "w") as forget:
        forget.write("5")
    before, tick = peak(), time.process_time()
    try:
        readers[kind](file)
        outcome = "read"
    except Exception as error:
        outcome = getattr(error, "code", repr(error))
    spent, rise = time.process_time() - tick, (peak() - before) / 1024
    print(json.dumps([name, outcome, spent, rise, os.path.getsize(file) / 2**20]), flush=True)
"""


def _zip(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return out.getvalue()


def _deflated() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 25))
    return out.getvalue()


def _gzip(header: bytes) -> bytes:
    """A header and 256 MiB of zeros."""
    return gzip.compress(header) + gzip.compress(bytes(1 << 20)) * 256


def _members() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"archive/{number}", b"")
    return out.getvalue()


def _safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + b"1234"


def _tensor(shape: bytes) -> bytes:
    return b'{"a":{"dtype":"F32","shape":[' + shape + b'],"data_offsets":[0,4]}}'


def _twice(count: int) -> bytes:
    keys = [*range(count), count - 1]
    return b"{" + b",".join(b'"%d":0' % key for key in keys) + b"}"


def _png(width: int, height: int, data: bytes, more: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", sum_)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    text = chunk(b"zTXt", b"a\0\0" + more) if more else b""
    return b"\x89PNG\r\n\x1a\n" + header + text + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + head


def _expanded() -> bytes:
    info = helper.make_tensor_value_info
    size = numpy_helper.from_array(np.array([1 << 20, 3, 32, 32]), "s")
    graph = helper.make_graph(
        [helper.make_node("Expand", ["x", "s"], ["y"])],
        "g", [info("x", 1, ["b", 3, 32, 32])], [info("y", 1, None)], [size],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def _empty_nodes(count: int) -> bytes:
    graph = onnx.GraphProto(node=[onnx.NodeProto()] * count)
    return onnx.ModelProto(ir_version=10, graph=graph).SerializeToString()


def _config(architecture: str, **arguments: object) -> bytes:
    own = {"architecture": architecture, "architecture_version": 1, "tag": "", "version": ""}
    name = architecture.rpartition(":")[2]
    said = {"architecture": name, "num_classes": 10, "model_args": arguments, "convattn": own}
    return json.dumps({**said, "pretrained_cfg": {"input_size": [3, 32, 32]}}).encode()


_LISTS = b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b"."
JSON: dict[str, Callable[[], bytes]] = {
    "deep": lambda: b"[" * 2_000_000,
    "wide": lambda: b'{"files":[' + b"[]," * 700_000 + b"[]]}",
    "one number": lambda: b"9" * 2_000_000,
    "many keys": lambda: b"{" + b",".join(b'"%d":{}' % n for n in range(200_000)) + b"}",
    "the last key twice": lambda: _twice(300_000),
}
BAD: dict[tuple[str, str], Callable[[], bytes]] = {
    ("checkpoint", "lists in lists"): lambda: _zip(_LISTS),
    ("checkpoint", "lists in lists, no archive"): lambda: _LISTS,
    ("checkpoint", "many lists"): lambda: _zip(b"\x80\x02](" + b"]" * 2_000_000 + b"e."),
    ("checkpoint", "memo"): lambda: _zip(b"\x80\x04" + b"]\x94" * 1_000_000 + b"."),
    ("checkpoint", "one number"): lambda: _zip(b"\x80\x02I" + b"9" * 2_000_000 + b"\n."),
    ("checkpoint", "deflated"): _deflated,
    ("checkpoint", "members"): _members,
    ("safetensors", "many tensors"): lambda: _safetensors(
        b"{"
        + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n
                    for n in range(60_000))
        + b"}"
    ),
    ("safetensors", "the last key twice"): lambda: _safetensors(_twice(300_000)),
    ("safetensors", "deep"): lambda: _safetensors(b'{"a":' + b"[" * 1_000_000),
    ("safetensors", "length"): lambda: struct.pack("<Q", 1 << 62) + b"{}",
    ("safetensors", "rank"): lambda: _safetensors(_tensor(b"1," * 1_000_000 + b"1")),
    ("safetensors", "one number"): lambda: _safetensors(_tensor(b"9" * 2_000_000)),
    ("image", "12000 x 12000"): lambda: _png(12_000, 12_000, bytes(100_000)),
    ("image", "60000 x 60000"): lambda: _png(60_000, 60_000, b"x"),
    ("image", "text"): lambda: _png(
        10, 10, zlib.compress(bytes(310)), zlib.compress(bytes(1 << 28), 1)
    ),
    ("image", "bmp"): lambda: _bmp(30_000, 30_000),
    ("onnx", "expanded"): _expanded,
    ("onnx", "empty nodes"): lambda: _empty_nodes(2_000_000),
    ("onnx", "fewer empty nodes"): lambda: _empty_nodes(400_000),
    ("idx", "gzip"): lambda: _gzip(b"\0\0\x08\x03" + struct.pack(">III", 1, 1, 1)),
    ("idx", "gzip of another kind"): lambda: _gzip(
        b"\0\0\x09\x03" + struct.pack(">III", 512, 1024, 1024)
    ),
    ("table", "lists in lists"): lambda: _LISTS,
    ("tar", "one member of a TiB"): lambda: (
        b"a.png".ljust(100, b"\0") + b"0000644\0" * 3 + b"\x80" + (1 << 40).to_bytes(11, "big")
    ).ljust(512, b"\0"),
    ("config", "timm, wide"): lambda: _config("timm:vit_tiny_patch16_224", embed_dim=65_536 * 3),
    ("config", "timm, deep"): lambda: _config("timm:vit_tiny_patch16_224", depth=100_000),
    ("config", "torchvision, wide"): lambda: _config("torchvision:resnet18", num_classes=900_000),
    ("config", "ours, wide"): lambda: _config("convit_nano", embed_dim=16_384),
    ("config", "ours, deep"): lambda: _config("convit_nano", depth=100_000),
}  # fmt: skip
for _kind in ("manifest", "config", "pins"):
    BAD |= {(_kind, f"json, {name}"): write for name, write in JSON.items()}
NAMES = {"manifest": "manifest.json", "config": "config.json", "pins": "pins.json"}


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux counts peaks")
def test_bad_files_are_refused_in_little_memory(
    tmp_path: Path, record_property: Callable[[str, int], None]
) -> None:
    weights = (ROOT / "zoo/catalog/shipped").rglob("convit_nano*.safetensors")
    light = next(iter(weights)).read_bytes()
    lines = []
    for number, ((kind, name), write) in enumerate(BAD.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = folder / NAMES.get(kind, f"file.{kind}")
        file.write_bytes(write())
        if kind == "config":
            (folder / "model.safetensors").write_bytes(light)
        lines.append(json.dumps([kind, f"{kind}: {name}", str(file)]))
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input="\n".join(lines), capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "CONVATTN_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(BAD)
    untyped = [row[:2] for row in found if row[1] == "read" or "(" in row[1]]
    assert not untyped
    large = [row for row in found if row[3] > 3 * row[4] + 200]
    assert not large
    slow = [row for row in found if row[2] > 20]  # about a second where nobody else computes
    assert not slow, slow
    record_property("files_in_bounds", len(found))
    record_property("largest_rise_mib", round(max(row[3] for row in found)))
