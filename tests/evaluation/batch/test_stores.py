"""Images in an object store: moto's S3 server on the loopback, pyarrow's own client."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

import zoo
from zoo.errors import ConfigError, DatasetError, ImageError, NetworkError, NotFoundError
from zoo.evaluation.batch.job import write_rows
from zoo.evaluation.batch.sources import open_source
from zoo.evaluation.batch.stream import prepare

SPEC = zoo.InputSpec(size=(4, 4), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)


def png(level: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (level,) * 3).save(out, "PNG")
    return out.getvalue()


def archive(levels: range) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for level in levels:
            for suffix, data in ((".cls", b"1"), (".png", png(level))):
                member = tarfile.TarInfo(f"{level:03}{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def parquet(levels: range) -> bytes:
    out = io.BytesIO()
    rows = [{"bytes": png(level), "path": f"{level}.png"} for level in levels]
    pq.write_table(pa.table({"image": rows}), out, row_group_size=3)
    return out.getvalue()


FILES = {
    "photos/b.png": png(20),
    "photos/a.png": png(10),
    "photos/.thumbs/a.png": png(99),
    "photos/sub/c.png": png(30),
    "photos/readme.md": b"text",
    "tars/1.tar": archive(range(3, 5)),
    "tars/0.tar": archive(range(3)),
    "rows/x.parquet": parquet(range(8)),
    "broken/x.parquet": parquet(range(8))[:-9],
    "broken/x.tar": archive(range(3))[:2300],
    "words/a.md": b"text",
}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The end of an address: the server, as pyarrow's addresses name it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.delenv(name, raising=False)
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            client = boto3.client(
                "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1"
            )
            client.create_bucket(Bucket="bucket")
            for name, data in FILES.items():
                client.put_object(Bucket="bucket", Key=name, Body=data)
            client.close()
            yield f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        finally:
            server.stop()


def levels(place: str, start: int = 0, stop: int | None = None) -> list[int]:
    """The grey level of each image, back from what the model would get."""
    items = list(open_source(place).items(start, stop))
    return [round(float(image[0, 0, 0]) * 127.5 + 127.5) for image in prepare(items, SPEC)]


def test_a_folder_of_images_a_tar_and_parquet_are_read_where_they_lie(store: str) -> None:
    source = open_source(f"s3://bucket/photos{store}")
    names = [item.path for item in source.items()]
    assert names == [f"s3://bucket/photos/{name}.png" for name in ("a", "b", "sub/c")]
    assert levels(f"s3://bucket/photos/{store}", 1) == [20, 30]
    assert levels(f"s3://bucket/photos/b.png{store}") == [20]
    assert levels(f"s3://bucket/tars{store}", 1, 4) == [1, 2, 3]
    assert levels(f"s3://bucket/rows/x.parquet{store}", 2, 7) == [2, 3, 4, 5, 6]
    assert open_source(f"s3://bucket/rows{store}").identity["bytes"] == len(FILES["rows/x.parquet"])


def test_a_list_on_this_machine_may_name_what_lies_elsewhere(store: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(7))
    (tmp_path / "list.txt").write_text(f"s3://bucket/photos/b.png{store}\na.png\n")
    assert levels(str(tmp_path / "list.txt")) == [20, 7]
    assert [item.path for item in open_source(tmp_path / "list.txt").items()] == [
        "s3://bucket/photos/b.png",
        "a.png",
    ]


def test_rows_do_not_say_what_follows_the_question_mark(store: str, tmp_path: Path) -> None:
    predictor = zoo.Predictor(lambda x: x[:, :2, 0, 0], SPEC, ("a", "b"))
    out = tmp_path / "rows.jsonl"
    write_rows(predictor, open_source(f"s3://bucket/photos{store}"), out)
    assert "endpoint_override" not in "".join(path.read_text() for path in out.iterdir())


@pytest.mark.parametrize(
    ("place", "kind", "text"),
    [
        ("bucket/none.parquet", NotFoundError, "nothing at 's3://bucket/none.parquet'"),
        ("nowhere/x", NotFoundError, "nothing at 's3://nowhere/x'"),
        ("bucket/words", ImageError, "no images in 's3://bucket/words' or below it, and 1"),
        ("bucket/broken/x.parquet", DatasetError, "no parquet file, or damaged"),
        ("bucket/broken/x.tar", DatasetError, "damaged near"),
    ],
)
def test_what_is_wrong_there_is_said(
    place: str, kind: type[Exception], text: str, store: str
) -> None:
    with pytest.raises(kind, match=text) as caught:
        list(open_source(f"s3://{place}{store}").items())
    assert "endpoint_override" not in str(caught.value)


def test_a_store_that_does_not_answer_is_a_network_error() -> None:
    nobody = "?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    with pytest.raises(NetworkError, match=r"cannot read 's3://bucket/x\.parquet'") as caught:
        open_source(f"s3://bucket/x.parquet{nobody}")
    assert caught.value.exit_code == 5


def test_an_address_that_is_none_is_said() -> None:
    with pytest.raises(ConfigError, match="is no address: Unexpected query parameter"):
        open_source("s3://bucket/rows?region=us-east-1&colour=blue")


def test_rows_are_written_here(tmp_path: Path) -> None:
    predictor = zoo.Predictor(lambda x: x[:, :2, 0, 0], SPEC, ("a", "b"))
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="on this machine"):
        write_rows(predictor, open_source(tmp_path), "s3://bucket/rows.csv")
    assert not Path("s3:").exists()
