"""Small files in exactly the formats of the public archives."""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.catalog.tables import read_labels, read_synsets

Array = np.ndarray[Any, Any]


class Raw(str):
    """Opcodes that go into a pickle as they are."""


def python2_pickle(value: Any) -> bytes:
    """Protocol 2 as Python 2's cPickle wrote the CIFAR batches: byte strings, lists in runs of
    1,000, arrays of numpy 1.x.
    """
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    if isinstance(value, Raw):
        return value.encode("latin-1")
    if value is None:
        return b"N"
    if isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        if len(data) < 256:
            return b"U" + bytes([len(data)]) + data
        return b"T" + struct.pack("<i", len(data)) + data
    if isinstance(value, int):
        if 0 <= value < 256:
            return b"K" + bytes([value])
        return (
            b"M" + struct.pack("<H", value)
            if 0 <= value < 65536
            else b"J" + struct.pack("<i", value)
        )
    if isinstance(value, tuple):
        inside = b"".join(_opcodes(item) for item in value)
        return inside + bytes([0x84 + len(value)]) if 1 <= len(value) <= 3 else b"(" + inside + b"t"
    if isinstance(value, list):
        runs = [value[start : start + 1000] for start in range(0, len(value), 1000)]
        return b"]" + b"".join(b"(" + b"".join(map(_opcodes, run)) + b"e" for run in runs)
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(k) + _opcodes(v) for k, v in value.items()) + b"u"
    dtype = b"cnumpy\ndtype\n" + _opcodes(("u1", 0, 1)) + b"R"
    dtype += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01" + _opcodes(value.shape) + dtype + b"\x89" + _opcodes(value.tobytes()) + b"t"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + _opcodes((0,)) + b"U\x01b"
    return made + b"\x87R" + state + b"b"


def cifar_images(count: int, classes: int = 10, seed: int = 0) -> tuple[Array, list[int]]:
    """uint8 (count, 32, 32, 3) and class numbers in turn."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return images, [index % classes for index in range(count)]


def rows_of(images: Array) -> Array:
    """(n, 3072): the red plane, the green one, the blue one."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def write_cifar10_python(folder: Path, per_batch: int = 20) -> Path:
    """cifar-10-batches-py with small batches; batch i is drawn with seed i, the test batch 6."""
    home = folder / "cifar-10-batches-py"
    home.mkdir(parents=True)
    for number in range(1, 7):
        images, labels = cifar_images(per_batch, seed=number)
        name = "test_batch" if number == 6 else f"data_batch_{number}"
        content = {
            "batch_label": f"batch {number}",
            "labels": labels,
            "data": rows_of(images),
            "filenames": [f"{index}.png" for index in range(per_batch)],
        }
        (home / name).write_bytes(python2_pickle(content))
    names = list(read_labels("cifar10"))
    meta = {"num_cases_per_batch": per_batch, "label_names": names, "num_vis": 3072}
    (home / "batches.meta").write_bytes(python2_pickle(meta))
    return home


def write_cifar10_binary(folder: Path, per_batch: int = 20) -> Path:
    """cifar-10-batches-bin with the same images."""
    home = folder / "cifar-10-batches-bin"
    home.mkdir(parents=True)
    for number in range(1, 7):
        images, labels = cifar_images(per_batch, seed=number)
        name = "test_batch.bin" if number == 6 else f"data_batch_{number}.bin"
        first = np.asarray(labels, dtype=np.uint8)[:, None]
        (home / name).write_bytes(np.hstack([first, rows_of(images)]).tobytes())
    (home / "batches.meta.txt").write_text("\n".join(read_labels("cifar10")) + "\n\n")
    return home


def write_cifar100(folder: Path, count: int = 300) -> tuple[Path, Path]:
    """cifar-100-python and cifar-100-binary with the same images."""
    python, binary = folder / "cifar-100-python", folder / "cifar-100-binary"
    python.mkdir(parents=True)
    binary.mkdir()
    for seed, part in enumerate(("train", "test")):
        images, fine = cifar_images(count, 100, seed)
        coarse = [label // 5 for label in fine]
        content = {
            "filenames": [f"{i}.png" for i in range(count)],
            "batch_label": part,
            "fine_labels": fine,
            "coarse_labels": coarse,
            "data": rows_of(images),
        }
        (python / part).write_bytes(python2_pickle(content))
        first = np.asarray([coarse, fine], dtype=np.uint8).T
        (binary / f"{part}.bin").write_bytes(np.hstack([first, rows_of(images)]).tobytes())
    names = list(read_labels("cifar100"))
    meta = {"fine_label_names": names, "coarse_label_names": [str(i) for i in range(20)]}
    (python / "meta").write_bytes(python2_pickle(meta))
    (binary / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    return python, binary


def pack(folder: Path, archive: Path) -> None:
    """The folder as .tar.gz, as the archives are published."""
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)


def write_cifar_c(folder: Path, names: tuple[str, ...], count: int = 10) -> Path:
    """corruption.npy and labels.npy; pixels of severity s are s, and labels count up."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        severities = np.repeat(np.arange(1, 6, dtype=np.uint8), count)
        images = np.broadcast_to(severities[:, None, None, None], (5 * count, 32, 32, 3))
        np.save(folder / f"{name}.npy", np.ascontiguousarray(images))
    np.save(folder / "labels.npy", np.tile(np.arange(count, dtype=np.uint8) % 10, 5))
    return folder


def picture(shade: int, size: tuple[int, int] = (8, 8), noise: int = 0) -> Image.Image:
    """A grey RGB image; `noise` makes its content its own."""
    values = np.full((size[1], size[0], 3), shade, dtype=np.uint8)
    values[0, 0] = (noise % 256, noise // 256 % 256, 1)
    return Image.fromarray(values)


def write_synsets(folder: Path, per_class: int = 1) -> Path:
    """1,000 synset folders with tiny JPEG files."""
    for number, synset in enumerate(read_synsets()):
        (folder / synset).mkdir(parents=True)
        buffer = io.BytesIO()
        picture(number % 256).save(buffer, "JPEG")
        for index in range(per_class):
            (folder / synset / f"{synset}_{index}.JPEG").write_bytes(buffer.getvalue())
    return folder


def write_classes(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """class/N.png with different images."""
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            image = picture(40 * number, noise=1000 * number + index + 7919 * seed)
            image.save(folder / name / f"{index}.png")
    return folder
