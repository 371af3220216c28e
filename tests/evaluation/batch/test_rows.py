"""Rows of many images: all of them, once, the same however the work was cut up."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import zoo
from zoo.cli import main
from zoo.errors import ConfigError, ImageError
from zoo.evaluation.batch import parts, rows, stream
from zoo.evaluation.batch.encoding import embeddings, encode
from zoo.evaluation.batch.items import Item
from zoo.evaluation.batch.job import write_rows
from zoo.evaluation.batch.sources import open_source
from zoo.evaluation.predictor import Predictor

ROWS = 20  # of a part, here


def _sum_of(batch: np.ndarray) -> np.ndarray:
    """A model with two classes whose answer depends, a little, on the size of the batch."""
    brightness = batch.mean((1, 2, 3)) + np.float32(1e-7) * len(batch)
    return np.stack([brightness, -brightness], 1)


@pytest.fixture
def predictor() -> Predictor:
    spec = zoo.InputSpec(size=(4, 4), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)
    return Predictor(_sum_of, spec, ("light", "dark"), "toy", "ab" * 32)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (parts, rows, stream):
        monkeypatch.setattr(module, "PART_ROWS", ROWS)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(50):
        Image.new("RGB", (4, 4), (5 * number,) * 3).save(folder / f"{number:02}.png")
    return folder


def read(folder: Path) -> list[dict]:
    files = sorted(folder.glob("part-*"))
    assert [path.stem for path in files] == [f"part-{n:05}" for n in range(len(files))]
    if folder.suffix == ".jsonl":
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]
    if folder.suffix == ".parquet":
        return pq.read_table(folder).to_pylist()
    return [row for path in files for row in csv.DictReader(io.StringIO(path.read_text()))]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_image_has_its_row(
    kind: str, predictor: Predictor, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"rows.{kind}"
    found = write_rows(predictor, open_source(pictures), out, topk=2, batch_size=8)
    rows = read(out)
    assert (found.rows, found.unreadable, len(rows)) == (50, 0, 50)
    assert [row["path"] for row in rows] == [str(p) for p in sorted(pictures.iterdir())]
    assert {row["label"] for row in rows[:25]} == {"dark"}
    expected = predictor(pictures / "40.png")
    assert rows[40]["label"] == expected.label == "light"
    assert float(rows[40]["probability"]) == pytest.approx(expected.probabilities[0], abs=1e-6)
    about = json.loads((out / "_provenance.json").read_text())
    assert (about["weights_sha256"], about["result"]["rows"]) == ("ab" * 32, 50)
    assert about["format_version"] == 1


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    predictor: Predictor, pictures: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    source = open_source(pictures)
    write_rows(predictor, source, whole, batch_size=8)

    class Stopped(Exception):
        pass

    done = 0

    def stop(count: int) -> None:
        nonlocal done
        done += count
        if done > 30:
            raise Stopped

    with pytest.raises(Stopped):
        write_rows(predictor, source, cut, batch_size=8, on_rows=stop)
    assert [p.name for p in sorted(cut.glob("part*"))] == ["part-00000.csv"]
    found = write_rows(predictor, source, cut, batch_size=8, resume=True)
    assert (found.rows, found.kept) == (50, 20)
    assert [p.read_bytes() for p in sorted(cut.glob("part*"))] == [
        p.read_bytes() for p in sorted(whole.glob("part*"))
    ]
    calls: list[int] = []
    counting = Predictor(lambda x: calls.append(len(x)) or _sum_of(x), predictor.input,
                         predictor.labels, "toy", "ab" * 32)  # fmt: skip
    again = write_rows(counting, source, cut, batch_size=8, resume=True)
    assert (again.rows, again.kept, calls) == (50, 50, [])


def test_a_damaged_part_is_computed_again_and_said(
    predictor: Predictor, pictures: Path, tmp_path: Path
) -> None:
    out, source = tmp_path / "rows.jsonl", open_source(pictures)
    write_rows(predictor, source, out)
    second = out / "part-00001.jsonl"
    good = second.read_bytes()
    second.write_bytes(good[:-40])
    found = write_rows(predictor, source, out, resume=True)
    assert any("part-00001.jsonl is not as it was written" in note for note in found.notes)
    assert (second.read_bytes(), found.kept) == (good, 30)


@pytest.mark.parametrize("other", ["options", "model", "images"])
def test_rows_of_something_else_are_not_continued(
    other: str, predictor: Predictor, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    write_rows(predictor, open_source(pictures), out, topk=1)
    with pytest.raises(ConfigError, match="--resume, begin anew with --overwrite"):
        write_rows(predictor, open_source(pictures), out, topk=1)
    changed = predictor
    if other == "model":
        changed = Predictor(_sum_of, predictor.input, predictor.labels, "toy", "cd" * 32)
    if other == "images":
        (pictures / "00.png").rename(pictures / "99.png")
    topk = 2 if other == "options" else 1
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(ConfigError, match="holds rows of something else") as caught:
        write_rows(changed, open_source(pictures), out, topk=topk, resume=True)
    assert caught.value.code == "another_run"
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    write_rows(changed, open_source(pictures), out, topk=topk, overwrite=True)
    assert len(read(out)) == 50


def test_a_folder_that_is_not_ours_is_left_alone(predictor: Predictor, pictures: Path) -> None:
    out = pictures.parent / "mine.csv"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="nothing that convattn wrote"):
        write_rows(predictor, open_source(pictures), out, overwrite=True)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_unreadable_images_have_rows_with_their_error(
    predictor: Predictor, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "07.png").write_bytes(b"no image")
    (pictures / "20.png").write_bytes((pictures / "20.png").read_bytes()[:40])
    source = open_source(pictures)
    with pytest.raises(ImageError, match=r"07\.png.* is not.*--on-unreadable skip"):
        write_rows(predictor, source, tmp_path / "stop.csv", batch_size=4)
    out = tmp_path / "rows.parquet"
    found = write_rows(predictor, source, out, on_unreadable="skip", batch_size=4)
    # nothing was written before the image that stopped the other run: there is nothing to keep
    again = write_rows(predictor, source, tmp_path / "stop.csv", on_unreadable="skip", batch_size=4)
    assert (again.rows, again.kept, again.unreadable) == (50, 0, 2)
    assert (found.rows, found.unreadable) == (50, 2)
    bad = [row for row in read(out) if row["error"]]
    assert [Path(row["path"]).name for row in bad] == ["07.png", "20.png"]
    assert {row["label"] for row in bad} == {None}
    assert "not an image" in bad[0]["error"]


def test_a_run_that_an_image_stopped_goes_on_past_it(
    predictor: Predictor, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "33.png").write_bytes(b"no image")
    source, out = open_source(pictures), tmp_path / "rows.csv"
    with pytest.raises(ImageError, match=r"33\.png"):
        write_rows(predictor, source, out)
    found = write_rows(predictor, source, out, on_unreadable="skip", resume=True)
    assert (found.rows, found.kept, found.unreadable) == (50, 20, 1)
    with pytest.raises(ConfigError, match="on_unreadable was skip, is stop"):
        write_rows(predictor, source, out, resume=True)


def test_features_are_rows_of_one_width(predictor: Predictor, pictures: Path) -> None:
    out = pictures.parent / "features.parquet"
    write_rows(predictor, open_source(pictures), out, topk=None)
    table = pq.read_table(out)
    assert str(table.schema.field("features").type) == "fixed_size_list<element: float>[2]"
    first = _sum_of(np.full((20, 3, 4, 4), -1, np.float32))[0]
    assert table["features"][0].as_py() == pytest.approx(first.tolist())
    for number in range(ROWS):  # a part without a readable image is as wide
        (pictures / f"{number:02}.png").write_bytes(b"no image")
    how = {"topk": None, "on_unreadable": "skip", "overwrite": True}
    write_rows(predictor, open_source(pictures), out, **how)
    assert pq.read_table(out)["features"].null_count == ROWS


@pytest.mark.parametrize("path", ["a\rb.png", "a\nb.png", 'a,"b".png'])
def test_odd_names_stay_one_cell_of_csv(path: str) -> None:
    row = {"path": path, "features": [0.5, 1.0], "error": None}
    text = encode(".csv", [row, row], embeddings(2)).decode()
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read[1:] == [[path, "0.5", "1.0", ""]] * 2


def test_a_stream_is_read_as_it_is_asked_for(predictor: Predictor, pictures: Path) -> None:
    decoded: list[int] = []

    def forward(batch: np.ndarray) -> np.ndarray:
        decoded.append(len(batch))
        return _sum_of(batch)

    lazy = Predictor(forward, predictor.input, predictor.labels)
    rows: Iterator = lazy.stream(pictures, topk=1, batch_size=5, workers=1)
    first = next(rows)
    assert (Path(first.path).name, first.prediction.label) == ("00.png", "dark")
    assert decoded == [5]
    rows.close()
    assert decoded == [5]


def test_dynamic_int8_is_not_for_batches(predictor: Predictor, pictures: Path) -> None:
    mixing = Predictor(_sum_of, predictor.input, predictor.labels, origin={"dynamic_int8": True})
    out = pictures.parent / "rows.csv"
    with pytest.raises(ConfigError, match="--batch-size 1") as caught:
        write_rows(mixing, open_source(pictures), out)
    assert caught.value.code == "neighbours"
    assert not out.exists()
    write_rows(mixing, open_source(pictures), out, batch_size=1)


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(args))
    return int(stopped.value.code or 0)


def test_the_verbs_write_rows(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "rows.jsonl")
    command = ["predict", "convit_nano", str(pictures), "--out", out]
    assert run(*command, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 50
    assert run(*command) == 3
    assert "--resume" in capsys.readouterr().err
    assert run(*command, "--resume") == 0
    assert "50 rows (0 new)" in capsys.readouterr().out
    features = str(tmp_path / "features.csv")
    assert run("embed", "convit_nano", "--data", str(pictures), "--out", features) == 0
    header = (Path(features) / "part-00000.csv").read_text().splitlines()[0].split(",")
    width = zoo.create_model("convit_nano", num_classes=0).num_features
    assert (header[0], header[-1], len(header)) == ("path", "error", width + 2)
    assert run("predict", "convit_nano", str(pictures), "--out", "rows.xls") == 3
    assert ".parquet" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_does_not_grow_with_the_number_of_images(
    predictor: Predictor, tmp_path: Path
) -> None:
    def resident_mib() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(
        data, "PNG"
    )

    class Tiny:
        count, identity, remarks = 100_000, {"kind": "toy"}, ()

        def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
            for number in range(start, self.count):
                yield Item(f"{number}.png", data=data.getvalue())

    seen, most = 0, {}

    def look(count: int) -> None:
        nonlocal seen
        seen += count
        if count and seen % 1000 == 0:
            half = "warm" if seen <= 20_000 else "later"
            most[half] = max(most.get(half, 0.0), resident_mib())

    found = write_rows(
        predictor, Tiny(), tmp_path / "rows.csv", topk=None, batch_size=64, on_rows=look
    )
    assert found.rows == seen == 100_000
    assert most["later"] - most["warm"] < 50
