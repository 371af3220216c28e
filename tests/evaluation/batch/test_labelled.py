"""Labelled sources: the figures of a folder, whatever the images come in."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import zoo
from zoo.cli import main
from zoo.data.opening import open_dataset
from zoo.errors import DatasetError
from zoo.evaluation.batch.labelled import open_labelled
from zoo.evaluation.batch.sources import open_source
from zoo.evaluation.evaluate import Evaluation, evaluate

CLASSES = ("dark", "light")
NAMES = [f"{kind}/{number:02}.png" for kind in CLASSES for number in range(12)]


def logits(images: list[np.ndarray]) -> np.ndarray:
    """Right for most: brightness with a threshold."""
    level = np.array([float(image.mean()) for image in images], np.float32) / 255
    return np.stack([0.45 - level, level - 0.45], 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        low = 20 if (number < 12) != (number in (3, 17, 20)) else 60
        image = random.integers(low, low + 130, (4 + number % 3, 5, 3), dtype=np.uint8)
        Image.fromarray(image).save(path)
    return tmp_path / "data"


def as_list(folder: Path, place: Path) -> Path:
    lines = [f"{folder / name}\t{name.partition('/')[0]}" for name in NAMES]
    (place / "list.txt").write_text("\n".join(lines))
    return place / "list.txt"


def as_list_of_folders(folder: Path, _: Path) -> Path:
    (folder / "list.txt").write_text("\n".join(NAMES))
    return folder / "list.txt"


def parquet(folder: Path, labels: list[object], metadata: dict[str, str] | None = None) -> pa.Table:
    rows = [{"bytes": (folder / name).read_bytes(), "path": name} for name in NAMES]
    table = pa.table({"image": rows, "label": labels})
    return table.replace_schema_metadata(metadata or {})


def as_numbers(folder: Path, place: Path) -> Path:
    table = parquet(folder, [int(name.startswith("light")) for name in NAMES])
    pq.write_table(table, place / "x.parquet", row_group_size=7)
    return place / "x.parquet"


def as_hugging_face(folder: Path, place: Path) -> Path:
    """ClassLabel numbers whose names are in another order than the model's."""
    features = {"label": {"names": ["light", "dark"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = parquet(folder, [int(name.startswith("dark")) for name in NAMES], metadata)
    pq.write_table(table, place / "x.parquet")
    return place / "x.parquet"


def as_tar(folder: Path, place: Path) -> Path:
    """The label before the image in one shard, after it in the other."""
    for shard in range(2):
        with tarfile.open(place / f"{shard}.tar", "w") as archive:
            for name in NAMES[shard::2]:
                key = name.replace("/", "-").removesuffix(".png")
                label = str(CLASSES.index(name.partition("/")[0])) if shard else name.split("/")[0]
                files = [(f"{key}.cls", label.encode()), (f"{key}.json", b"{}"),
                         (f"{key}.png", (folder / name).read_bytes())]  # fmt: skip
                for member_name, data in files[:: 1 if shard else -1]:
                    member = tarfile.TarInfo(member_name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return place


def measured(place: Path, labels: tuple[str, ...] = CLASSES) -> Evaluation:
    data = open_labelled("x", open_source(place), labels)
    return evaluate(logits, data, labels=labels, batch_size=5, resamples=0)


@pytest.mark.parametrize("make", [as_list, as_list_of_folders, as_numbers, as_hugging_face, as_tar])
def test_a_source_has_the_figures_of_a_folder(
    make: Callable[[Path, Path], Path], folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "made"
    place.mkdir()
    expected = evaluate(logits, open_dataset(str(folder), "all"), labels=CLASSES, resamples=0)
    assert 0.6 < expected.values["acc1"] < 1
    found = measured(make(folder, place))
    assert found.values == pytest.approx(expected.values, rel=1e-6, nan_ok=True)
    assert (found.confusion == expected.confusion).all()
    if make is not as_tar:  # its order is another
        assert found.data_sha256 == expected.data_sha256


def test_a_model_without_class_names_takes_those_of_the_data(folder: Path, tmp_path: Path) -> None:
    assert measured(as_list_of_folders(folder, tmp_path), ()).labels == CLASSES
    assert measured(as_numbers(folder, tmp_path), ()).labels == ("0", "1")


def test_an_image_that_cannot_be_read_is_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    (folder / NAMES[3]).write_bytes(b"no image")
    data = open_labelled("x", open_source(as_list_of_folders(folder, tmp_path)), CLASSES)
    with pytest.raises(ValueError, match=r"03\.png.*--on-unreadable skip"):
        evaluate(logits, data, labels=CLASSES)
    found = evaluate(logits, data, labels=CLASSES, on_unreadable="skip", resamples=0)
    assert (found.skipped, len(found.outcomes)) == ((NAMES[3],), 23)


@pytest.mark.parametrize("pack", ["list", "parquet"])
def test_numbers_mean_names_where_classes_are_called_by_numbers(
    pack: str, folder: Path, tmp_path: Path
) -> None:
    labels = tuple(sorted(str(number) for number in range(12)))  # 0, 1, 10, 11, 2 ...
    stated = [2, 10, 11]
    if pack == "list":
        place = folder / "list.txt"
        rows = zip(NAMES, stated, strict=False)
        place.write_text("".join(f"{name}\t{number}\n" for name, number in rows))
    else:
        place = tmp_path / "x.parquet"
        pq.write_table(parquet(folder, [*stated, *[0] * 21]).slice(0, 3), place)
    data = open_labelled("x", open_source(place), labels)
    [(_, _, targets)] = data.batches(8, "stop", [])
    assert [labels[target] for target in targets] == ["2", "10", "11"]


def shared_label(folder: Path, place: Path) -> Path:
    """0.1.png and 0.2.png have the key "0", as webdataset counts."""
    with tarfile.open(place / "x.tar", "w") as archive:
        for name in ("0.1.png", "0.2.png"):
            archive.add(folder / NAMES[0], name)
    return place / "x.tar"


def padded_number(folder: Path, _: Path) -> Path:
    (folder / "list.txt").write_text(f"{NAMES[0]}\t007\n")
    return folder / "list.txt"


def no_column(folder: Path, place: Path) -> Path:
    pq.write_table(parquet(folder, [1] * 24).drop(["label"]), place / "x.parquet")
    return place / "x.parquet"


def no_cls(folder: Path, place: Path) -> Path:
    with tarfile.open(place / "x.tar", "w") as archive:
        archive.add(folder / NAMES[0], "a.png")
    return place / "x.tar"


def bare_list(folder: Path, place: Path) -> Path:
    (folder / "dark" / "list.txt").write_text("00.png\n")
    return folder / "dark" / "list.txt"


def foreign(folder: Path, place: Path) -> Path:
    pq.write_table(parquet(folder, [7] * 24), place / "x.parquet")
    return place / "x.parquet"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (no_column, r"no column 'label' with numbers or names; it has image \(struct"),
        (no_cls, r"'a\.png' in '.*x\.tar' has no label"),
        (bare_list, "'00.png' has no label"),
        (shared_label, r"'0\.1\.png' and '0\.2\.png' .* would share one label"),
        (padded_number, r"labelled '007', which is none of the 2 classes"),
        (foreign, r"labelled '7', which is none of the 2 classes \(dark, light"),
    ],
)
def test_labels_that_are_missing_or_foreign_are_said(
    make: Callable[[Path, Path], Path], text: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=text):
        measured(make(folder, tmp_path))


def test_the_command_measures_a_parquet_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = open_dataset("digits", "test").subset(range(40))
    rows, labels = [], []
    for image, target in digits:
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        rows.append({"bytes": out.getvalue(), "path": f"{len(rows)}.png"})
        labels.append(target)
    place = tmp_path / "digits.parquet"
    pq.write_table(pa.table({"image": rows, "digit": labels}), place)

    def run(*more: str) -> int:
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", "convit_nano", "--data", str(place), *more])
        return int(stopped.value.code or 0)

    assert run("--label-column", "digit", "--json") == 0
    found = json.loads(capsys.readouterr().out)["results"]["digits.parquet"]
    predictor = zoo.Predictor.from_model(zoo.create_model("convit_nano", pretrained=True))
    expected = evaluate(predictor.logits, digits, labels=predictor.labels)
    assert found["correct"] == expected.accuracy.correct
    assert (found["total"], found["of"]) == (40, 40)
    assert run() == 3
    assert "--label-column" in capsys.readouterr().err
    assert run("--part", "test") == 2
