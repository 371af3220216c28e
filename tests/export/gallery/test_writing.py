"""What `convattn gallery` writes: escaped, self-contained, whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from export import export_model
from export.publishing.gallery import card, runtime, write_gallery, writing
from export.publishing.gallery.pages import Page, index_page
from zoo.errors import ConfigError, IntegrityError, WeightsFileError, ZooError
from zoo.files.local import sha256_file

LABELS = ("<script>alert(1)</script>", "猫", "a & b")
FAKE = {name.replace(".wasm", ".wasm.gz") if name.endswith(".wasm") else name: b"runtime"
        for name in (*runtime.WASM, *runtime.WEBGPU, "LICENSE.txt")}  # fmt: skip


def fake_runtime(tarball: Path | None, smallest: bool) -> Mapping[str, bytes]:
    return FAKE


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's model with foreign class names, exported without any extra."""
    model = zoo.create_model(
        "convit_nano", num_classes=3, img_size=16, depth=2, local_up_to_layer=1, embed_dim=16
    ).eval()
    cfg = model.pretrained_cfg
    model.pretrained_cfg = zoo.PretrainedCfg(**{**vars(cfg), "labels": LABELS})
    return export_model(model, tmp_path_factory.mktemp("own") / "mine", ("onnx",)).directory


@pytest.fixture(scope="module")
def gallery(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    photo = tmp_path_factory.mktemp("photos") / "my_photo.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    out = tmp_path_factory.mktemp("out") / "gallery"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "runtime_files", fake_runtime)
        write_gallery([str(exported)], out, samples=photo)
    return out


def facts_of(gallery: Path) -> dict[str, object]:
    content = json.loads((gallery / "models/convit_nano/model.json").read_text())
    return dict(content)


def test_class_names_of_strangers_never_reach_the_html(gallery: Path) -> None:
    assert facts_of(gallery)["labels"] == list(LABELS)
    for page in gallery.rglob("*.html"):
        assert "alert(1)" not in page.read_text(encoding="utf-8")


def test_no_page_names_another_site(gallery: Path) -> None:
    for path in gallery.rglob("*"):
        if path.suffix in (".html", ".mjs", ".js", ".css", ".svg"):
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://|//cdn|url\(", text), path


def test_every_path_is_relative_so_that_any_sub_path_serves(gallery: Path) -> None:
    for page in gallery.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#][^"]*)"', page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


CARD = """---
license: mit
---
# Mine & yours

See [the data](data/list.csv), [its page](https://example.org/a?b=1) and ![a picture](x.png).

<script>alert(1)</script>

| a | b |
|---|---|
| 1 | <b>2</b> |

```bash
convattn predict . photo.png
```
"""


def test_a_card_in_a_directory_is_a_page_of_its_own(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "runtime_files", fake_runtime)
    mine = tmp_path / "mine"
    shutil.copytree(exported, mine)
    (mine / "README.md").write_text(CARD, encoding="utf-8")
    write_gallery([str(mine), "resnet_nano.digits"], tmp_path / "out", cards="../cards/")
    place = tmp_path / "out" / "models" / "convit_nano"
    html = (place / "card.html").read_text(encoding="utf-8")
    assert "license: mit" not in html
    assert "<h1>Mine &amp; yours</h1>" in html
    assert 'href="data/list.csv"' not in html
    assert '<a href="https://example.org/a?b=1">its page</a> and a picture.' in html
    assert "<script>alert" not in html
    assert "<td>&lt;b&gt;2&lt;/b&gt;</td>" in html
    assert '<a href="card.html">Model card</a>' in (place / "index.html").read_text("utf-8")
    named = tmp_path / "out" / "models" / "resnet_nano.digits" / "index.html"
    assert 'href="../../../cards/resnet_nano.digits.html"' in named.read_text("utf-8")


def test_a_card_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert card.read_card(tmp_path) == ""
    (tmp_path / "README.md").write_bytes(b"a" * (2**20 + 1))
    with pytest.raises(WeightsFileError, match="model card"):
        card.read_card(tmp_path)
    (tmp_path / "README.md").write_bytes(b"caf\xe9 ---\n")  # Latin-1
    assert card.read_card(tmp_path) == "caf\ufffd ---\n"
    (tmp_path / "README.md").write_bytes(b"\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\n# Mine\r\n")
    assert card.read_card(tmp_path) == "# Mine\n"  # as editors of Windows write it


def test_pages_lead_to_the_documentation_that_they_are_told_of() -> None:
    page = Page("a", "a_b.c", "", (), "", "", "", (4, 3, ""), 0, "")
    assert 'href="../index.html"' in index_page([page], "../index.html")
    assert "Documentation" not in index_page([page])
    assert "<h2>a_<wbr>b.<wbr>c</h2>" in index_page([page])


def test_the_digests_of_all_files_are_known_to_the_page(gallery: Path) -> None:
    facts = facts_of(gallery)
    files = [*facts["files"].values(), facts["preprocess"], facts["attention"]]
    for file in files:
        path = gallery / "models/convit_nano" / file["file"]
        assert sha256_file(path) == file["sha256"]


def test_attention_is_added_to_an_export_without_it(gallery: Path, exported: Path) -> None:
    assert not (exported / "onnx/model_attention.onnx").exists()
    layers = facts_of(gallery)["attention"]["layers"]
    assert [layer["gates"] is None for layer in layers] == [False, True]
    assert [layer["prefix"] for layer in layers] == [0, 1]


def test_samples_carry_the_answer_of_python(gallery: Path) -> None:
    [sample] = facts_of(gallery)["samples"]
    assert sample["alt"] == "my photo"
    assert len(sample["logits"]) == 3
    assert 0 < sample["eager_error"] < 1e-4


def test_the_folder_is_a_static_space_and_a_site_of_pages(gallery: Path) -> None:
    readme = (gallery / "README.md").read_text()
    assert readme.startswith("---\n")
    assert "\nsdk: static\n" in readme
    assert (gallery / ".nojekyll").exists()


def test_a_gallery_is_replaced_as_a_whole_and_nothing_else_is(
    gallery: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "runtime_files", fake_runtime)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        write_gallery([str(exported)], foreign)
    mine = shutil.copytree(gallery, tmp_path / "place" / "gallery")
    (mine / "old").touch()
    write_gallery([str(exported)], mine)
    assert not (mine / "old").exists()
    assert sorted(p.name for p in mine.parent.iterdir()) == ["gallery"]


def test_a_failure_leaves_nothing(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "runtime_files", fake_runtime)
    with pytest.raises(ZooError, match="no_such_model"):
        write_gallery(["no_such_model"], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_changed_file_is_not_served(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(writing, "runtime_files", fake_runtime)
    changed = shutil.copytree(exported, tmp_path / "changed")
    with open(changed / "onnx/model.onnx", "ab") as handle:
        handle.write(b"\0")
    with pytest.raises(IntegrityError):
        write_gallery([str(changed)], tmp_path / "out")


def test_a_model_without_classes_is_refused(tmp_path: Path, exported: Path) -> None:
    from export.publishing.gallery.collecting import collect

    model = zoo.create_model("convit_nano", num_classes=0, img_size=16, depth=2, embed_dim=16)
    folder = export_model(model.eval(), tmp_path / "embeds", ("onnx",)).directory
    with pytest.raises(ConfigError, match="has no classifier"):
        collect(str(folder), tmp_path / "work")
