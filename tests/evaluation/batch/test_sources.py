"""Sources: the images that others put there, in one order, or an error that says what it is."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zoo.errors import ConfigError, DatasetError, ImageError, NotFoundError, ZooError
from zoo.evaluation.batch.sources import is_source, open_source

NOTHING = pa.array([], "binary")


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(out, "PNG")
    return out.getvalue()


def paths(place: object, start: int = 0, stop: int | None = None, column: str = "") -> list[str]:
    return [item.path for item in open_source(place, column).items(start, stop)]


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "pictures"
    (place / "sub").mkdir(parents=True)
    for number, name in enumerate(("b.png", "a.png", "sub/c.png", "d.png")):
        (place / name).write_bytes(png(number))
    return place


def test_a_folder_is_in_order_and_starts_anywhere(folder: Path) -> None:
    names = [str(folder / name) for name in ("a.png", "b.png", "d.png", "sub/c.png")]
    assert paths(folder) == names
    assert paths(folder, 1, 3) == names[1:3]
    assert open_source(folder).count == 4


def test_a_list_is_relative_to_itself_and_keeps_its_order(folder: Path) -> None:
    (folder / "list.txt").write_text("d.png\n\nsub/c.png\n")
    source = open_source(folder / "list.txt")
    assert [(i.path, i.file) for i in source.items()] == [
        ("d.png", str(folder / "d.png")),
        ("sub/c.png", str(folder / "sub/c.png")),
    ]


def test_a_list_may_begin_with_a_mark_of_windows_and_hold_odd_names(folder: Path) -> None:
    data = "\ufeffa.png\r\nodd\u2028name.png\r\n".encode()
    (folder / "marked.txt").write_bytes(data)
    assert open_source(folder / "marked.txt").names == ["a.png", "odd\u2028name.png"]


def test_a_name_that_is_not_utf8_has_a_row_that_can_be_written(folder: Path) -> None:
    os.rename(folder / "a.png", os.fsencode(folder) + b"/\xff.png")
    found = list(open_source(folder).items())
    assert found[-1].path.endswith("\\xff.png")
    assert Path(found[-1].file).read_bytes() == png(1)


@pytest.mark.parametrize("kind", ["w", "w:gz"])
def test_a_tar_gives_its_images_in_its_order(tmp_path: Path, kind: str) -> None:
    place = tmp_path / ("x.tar" + kind[2:].replace("gz", ".gz"))
    with tarfile.open(place, kind) as archive:
        for name in ("b.png", "b.cls", "a/a.JPG", "._b.png", "c.png"):
            add(archive, name, png(3) if name.lower()[-3:] in ("png", "jpg") else b"1")
    assert paths(place) == ["b.png", "a/a.JPG", "c.png"]
    assert paths(place, 1, 2) == ["a/a.JPG"]
    assert {item.data for item in open_source(place).items()} == {png(3)}


def test_places_in_stores_are_sources_and_folders_of_images_are_not(folder: Path) -> None:
    assert is_source("s3://bucket/anything")
    assert not is_source(str(folder))
    assert not is_source(str(folder / "a.png"))
    assert not is_source(str(folder / "nothing"))
    assert is_source(str(written(folder, "list.txt", b"a.png")))


def write_parquet(place: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), place, row_group_size=3)
    return place


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    rows = [{"bytes": png(n), "path": f"{n}.png" if n != 4 else None} for n in range(8)]
    place = write_parquet(tmp_path / "x.parquet", image=rows, label=list(range(8)))
    assert paths(place) == [f"{n}.png" if n != 4 else "x.parquet#4" for n in range(8)]
    assert paths(place, 4, 6) == ["x.parquet#4", "5.png"]
    assert paths(place, 2, 4) == ["2.png", "3.png"]  # the last group has two rows, and is not there
    assert [item.data for item in open_source(place).items(7)] == [png(7)]


def test_parquet_with_plain_columns_and_a_chosen_one(tmp_path: Path) -> None:
    place = write_parquet(tmp_path / "x.parquet", bytes=[png(0)], path=["a"], other=[png(9)])
    assert paths(place) == ["a"]
    assert next(open_source(place, "other").items()).data == png(9)


def test_shards_are_one_source_that_starts_anywhere(tmp_path: Path) -> None:
    places = []
    for shard in range(3):
        rows = [{"bytes": png(n), "path": f"{shard}-{n}"} for n in range(4)]
        places.append(write_parquet(tmp_path / f"train-{shard}.parquet", image=rows))
    names = [f"{shard}-{n}" for shard in range(3) for n in range(4)]
    (tmp_path / "README.md").write_text("a data set")
    assert open_source(tmp_path).count == 12
    for start, stop in ((0, None), (3, 9), (4, 8), (11, None), (0, 0)):
        assert paths(tmp_path, start, stop) == names[start:stop]
    assert paths(places[::-1])[:4] == names[8:]
    with pytest.raises(ConfigError, match="twice"):
        open_source([*places, places[0]])
    with pytest.raises(ConfigError, match="files, parquet"):
        open_source([places[0], written(tmp_path, "a.png", png(0))])


def test_archives_whose_count_nobody_knows_are_counted_in_passing(tmp_path: Path) -> None:
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
            for number in range(shard + 1):
                add(archive, f"{shard}-{number}.png", png(number))
    names = ["0-0.png", "1-0.png", "1-1.png", "2-0.png", "2-1.png", "2-2.png"]
    assert open_source(tmp_path).count is None
    for start, stop in ((0, None), (2, 4), (1, 3), (5, 9)):
        assert paths(tmp_path, start, stop) == names[start:stop]


def damaged_tar(place: Path) -> Path:
    with tarfile.open(place / "x.tar.gz", "w:gz") as archive:
        for number in range(40):
            add(archive, f"{number}.png", os.urandom(3000))
    data = (place / "x.tar.gz").read_bytes()
    (place / "x.tar.gz").write_bytes(data[: len(data) // 2])
    return place / "x.tar.gz"


def cut_tar(place: Path) -> Path:
    """A plain archive that ends in a header: tarfile takes that for its end."""
    with tarfile.open(place / "x.tar", "w") as archive:
        for number in range(4):
            add(archive, f"{number}.png", png(number))
    data = (place / "x.tar").read_bytes()
    (place / "x.tar").write_bytes(data[: 2 * 1024 + 100])
    return place / "x.tar"


def written(place: Path, name: str, data: bytes) -> Path:
    (place / name).write_bytes(data)
    return place / name


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda p: p / "none.parquet", NotFoundError, "no such file"),
        (lambda p: p, ImageError, "no images in"),
        (lambda p: written(p, "x.txt", b"\n\n"), ImageError, "names no images"),
        (lambda p: written(p, "x.txt", b"a\nb\na\n"), DatasetError, "in line 1 and in line 3"),
        (lambda p: written(p, "x.txt", b"\xff\n"), DatasetError, "byte 0 is not UTF-8"),
        (lambda p: written(p, "x.tar", b"no tar" * 200), DatasetError, "no tar archive"),
        (damaged_tar, DatasetError, "damaged near"),
        (cut_tar, DatasetError, r"damaged near '1\.png'"),
        (lambda p: [p / "a.png", written(p, "a.png", png(0))], ConfigError, "named twice"),
        (lambda p: written(p, "x.parquet", b"PAR1"), DatasetError, "no parquet file"),
        (lambda p: write_parquet(p / "x.parquet", label=[1]), DatasetError, r"label \(int64\)"),
        (lambda p: write_parquet(p / "x.parquet", bytes=NOTHING), ImageError, "no rows"),
        (lambda p: [written(p, "a.txt", b"a"), p], ConfigError, "files, list"),
        (lambda p: [written(p, x, b"a") for x in ("a.txt", "b.txt")], ConfigError, "got 2"),
    ],
)  # fmt: skip
def test_what_is_no_source_is_named(
    tmp_path: Path, make: Callable[[Path], object], kind: type[ZooError], text: str
) -> None:
    with pytest.raises(kind, match=text) as caught:
        list(open_source(make(tmp_path)).items())
    assert len(str(caught.value)) <= 400


def test_bytes_in_the_middle_of_parquet_are_checked(tmp_path: Path) -> None:
    rows = [os.urandom(4000) for _ in range(9)]
    place = write_parquet(tmp_path / "x.parquet", bytes=rows)
    data = bytearray(place.read_bytes())
    data[20:60] = bytes(40)  # the header of the first page
    place.write_bytes(data)
    with pytest.raises(DatasetError, match="damaged"):
        list(open_source(place).items())
