"""Published weights: what is known of them, what loads by name, and what must be imported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.hub.client import python
from tests.hub.server import HubServer, running
from zoo.catalog.registry import list_checkpoints
from zoo.catalog.weights_records import CheckpointRecord, WeightsRecord
from zoo.errors import ConfigError, NoWeightsError, UnknownModelError
from zoo.factory.importing.fitting import LAYOUTS
from zoo.weights.safetensors_file import weights_bytes

PINNED = ["convit_tiny", "convit_small", "convit_base"]
FACTS = {"model": "convit_nano", "tag": "x", "version": "1.0.0", "architecture_versions": (1,)}


def test_the_published_checkpoints_are_known_with_address_and_licence() -> None:
    known = {record.name: record for record in list_checkpoints()}
    assert set(known) == {
        *(f"{name}.fb_in1k" for name in PINNED),
        *(f"fcvit_{size}.in1k" for size in ("tiny", "b12", "b24", "b48")),
        *(
            f"{name}.hdvw_cifar100"
            for name in (
                "resnet_50",
                "timm:vit_tiny_patch16_224",
                "timm:pit_ti_224",
                "timm:swin_tiny_patch4_window7_224",
            )
        ),
    }
    for name, record in known.items():
        licence = record.licence or zoo.get_record(record.model).family.licence.weights
        assert licence == "Apache-2.0", name
        assert record.address.startswith("https://"), name
        assert record.dataset, name
        assert record.layout in LAYOUTS, name
        assert all(metric.source for metric in record.metrics), name


@pytest.mark.parametrize("name", PINNED)
def test_timms_copies_are_pinned_on_first_use_and_pretend_no_digest(name: str) -> None:
    record = zoo.get_record(name)
    assert record.selected is not None
    assert record.selected.pinned_on_first_use
    assert record.selected.repo == f"timm/{name}.fb_in1k"
    assert (record.selected.sha256, record.selected.size_bytes) == ("", 0)
    assert record.checkpoint is not None
    assert record.tags == ("fb_in1k",)


def test_pretrained_lists_what_loads_without_import() -> None:
    loads = zoo.list_models(pretrained=True)
    assert set(PINNED) <= set(loads)
    assert not {"fcvit_tiny", "resnet_50"} & set(loads)
    assert "fcvit_tiny.in1k" in zoo.list_models(with_tags=True)
    assert "fcvit_tiny.in1k" not in zoo.list_models(with_tags=True, pretrained=True)


@pytest.mark.parametrize(
    ("reference", "address"),
    [
        ("fcvit_b12", "github.com/ma-xu/FCViT (its README links to Google Drive folders)"),
        ("fcvit_b12.in1k", "github.com/ma-xu/FCViT"),
        ("resnet_50.hdvw_cifar100", "releases/download/v0.1/resnet_50_cifar100_691cc9a9e4.pth.tar"),
        ("timm:pit_ti_224.hdvw_cifar100", "pit_ti_cifar100_0645889efb.pth.tar"),
    ],
)
def test_weights_that_must_be_imported_say_so(reference: str, address: str) -> None:
    with pytest.raises(NoWeightsError) as caught:
        zoo.create_model(reference, pretrained=True)
    assert caught.value.code == "import_first"
    assert "`convattn import FILE --model" in str(caught.value)
    assert address in str(caught.value)


def test_a_tag_that_must_be_imported_builds_without_weights() -> None:
    model = zoo.create_model("timm:pit_ti_224.hdvw_cifar100")
    assert model.num_classes == 100
    with pytest.raises(UnknownModelError, match="it has none, it must be imported"):
        zoo.get_record("fcvit_tiny.in1k@1.0.0")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pinned_on_first_use": True, "bundled": "x"}, "goes with repo"),
        ({"pinned_on_first_use": True, "repo": "a/b", "sha256": "0" * 64}, "without sha256"),
        ({"repo": "a/b"}, "sha256 must be 64"),
    ],
)
def test_records_say_where_their_digest_comes_from(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        WeightsRecord(**FACTS, **changes)


def test_checkpoint_records_have_an_address() -> None:
    with pytest.raises(ConfigError, match="must start with https://"):
        CheckpointRecord(model="convit_nano", tag="x", address="convit.pth")


# Pinned on first use, with the genuine client and a Hub on this machine

REPO = "timm/convit_tiny.fb_in1k"
CLIENT = """
import json, logging, os, sys
import zoo

lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("zoo").addHandler(handler)

def load():
    try:
        model = zoo.create_model("convit_tiny", pretrained=True)
    except zoo.ZooError as error:
        return {"code": error.code, "message": str(error)}
    cfg = model.pretrained_cfg
    return {"sha256": cfg.sha256, "name": cfg.name, "norm": model.norm.bias[0].detach().item()}

os.environ["CONVATTN_REQUIRE_PINNED"] = "1"
required = load()
del os.environ["CONVATTN_REQUIRE_PINNED"]
print(json.dumps({"required": required, "loaded": required if "name" in required else load(),
                  "log": lines}))
"""


def _file(value: float) -> bytes:
    model = zoo.create_model("convit_tiny")
    with torch.no_grad():
        model.norm.bias[0] = value
    return weights_bytes(model)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with running() as server:
        server.repo(REPO, {"model.safetensors": _file(0.25)})
        yield server
        assert not server.unhandled


def test_hub_weights_are_pinned_at_first_use_and_held_to_it(hub: HubServer, tmp_path: Path) -> None:
    first = python(CLIENT, tmp_path / "home", hub.endpoint)
    assert first["required"]["code"] == "unpinned", "no pin yet, and pins are required"
    loaded = first["loaded"]
    assert (loaded["name"], loaded["norm"]) == ("convit_tiny.fb_in1k", 0.25)
    assert any("pinned model.safetensors of timm/convit_tiny" in line for line in first["log"])
    pins = json.loads((tmp_path / "home" / "convattn" / "pins.json").read_text("utf-8"))["pins"]
    assert [(pin["repo"], pin["sha256"]) for pin in pins] == [(REPO, loaded["sha256"])]
    hub.repos[REPO].commit({"model.safetensors": _file(0.5)})
    again = python(CLIENT, tmp_path / "home", hub.endpoint)
    assert again == {"required": loaded, "loaded": loaded, "log": []}
