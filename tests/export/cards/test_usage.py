"""Every snippet of a card runs as it stands, in a process of its own, and all give one answer."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import export
import zoo
from export.cards.document import render
from export.cards.facts import CardFacts, facts_of
from export.cards.usage import CHECKOUT, IMAGE, repo_of
from zoo.catalog.tables import read_labels
from zoo.factory.config_json import build_config
from zoo.weights.safetensors_file import weights_bytes

from ...hub.client import FILE, ROOT, environment
from ...hub.server import HubServer
from .conftest import NANO

WAYS = ("create_model", "torch.hub", "timm", "ONNX Runtime", "Command line")
NOTHING = ROOT / "model_cards" / "nothing"  # usage is a matter of records alone
SEVEN = ROOT / "examples" / "digit_7.png"


def snippets(name: str) -> dict[str, tuple[str, str]]:
    """Heading -> (language, code), from the card as it is rendered."""
    text = render(facts_of(name, NOTHING))
    section = text.partition("\n## Use\n")[2].partition("\n## ")[0]
    found = re.findall(r"### ([^\n]+)\n.*?```(\w+)\n(.*?)```", section, flags=re.DOTALL)
    return {title: (language, code) for title, language, code in found}


def run(snippet: tuple[str, str], home: Path, endpoint: str, image: Path) -> str:
    """Run a snippet in a clean folder that holds the photo and the checkout; returns its output."""
    place, commands = home / "place", home / "bin"
    for folder in (place, commands):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(image, place / IMAGE)
    if not (place / CHECKOUT).exists():
        (place / CHECKOUT).symlink_to(ROOT)
    for name, what in (("convattn", "-m zoo"), ("pip", "-W ignore -m pip")):
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {what} "$@"\n')
        command.chmod(0o755)
    language, code = snippet
    words = ["bash", "-e", "-c"] if language == "bash" else [sys.executable, "-c"]
    variables = environment(home / "home", endpoint)
    variables |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}  # installed already
    variables["PATH"] = f"{commands}:{variables['PATH']}"
    done = subprocess.run(
        [*words, code], cwd=place, env=variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def put_onnx(hub: HubServer, facts: CardFacts, file: Path) -> None:
    """A published bundle, as far as the snippet reads it."""
    repo = hub.repo(repo_of(facts), {"onnx/model.onnx": file.read_bytes()})
    repo.refs[f"v{facts.cfg.version}"] = repo.refs["main"]


def check_all(name: str, home: Path, hub: HubServer, image: Path, answer: str) -> None:
    found = snippets(name)
    assert tuple(found) == WAYS
    for way, snippet in found.items():
        out = run(snippet, home, hub.endpoint, image)
        if way == "Command line":
            answers = re.findall(rf"^{re.escape(IMAGE)} +(.+?)  ", out, flags=re.MULTILINE)
            assert answers == [answer, answer], out
        else:
            assert out.splitlines()[-1] == answer, way


@pytest.mark.slow
def test_all_five_ways_to_use_bundled_weights_run_and_answer_alike(
    hub: HubServer, exported: Path, tmp_path: Path
) -> None:
    put_onnx(hub, facts_of(NANO, NOTHING), exported / "onnx" / "model.onnx")
    check_all(NANO, tmp_path, hub, SEVEN, "7")


@pytest.mark.slow
def test_all_five_ways_run_for_another_size_and_labels(hub: HubServer, tmp_path: Path) -> None:
    name = "fcvit_nano.fashion_mnist"
    model = zoo.create_model(name, pretrained=True)
    answer = zoo.Predictor.from_model(model)(SEVEN).label
    export.to_onnx(model, tmp_path / "model.onnx")
    put_onnx(hub, facts_of(name, NOTHING), tmp_path / "model.onnx")
    check_all(name, tmp_path, hub, SEVEN, answer)


@pytest.mark.slow
def test_all_five_ways_run_for_weights_on_the_hub(hub: HubServer, tmp_path: Path) -> None:
    """On random weights in the place of timm's, on a Hub of our own."""
    name = "convit_tiny.fb_in1k"
    model = zoo.create_model("convit_tiny").eval()
    hub.repo(f"timm/{name}", {"config.json": _config(model), FILE: weights_bytes(model)})
    export.to_onnx(model, tmp_path / "model.onnx")
    put_onnx(hub, facts_of(name, NOTHING), tmp_path / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((330, 270)).save(tmp_path / "photo.png")
    answer = zoo.Predictor.from_model(model)(tmp_path / "photo.png")
    found = snippets(name)
    assert tuple(found) == WAYS
    for way, snippet in found.items():
        out = run(snippet, tmp_path, hub.endpoint, tmp_path / "photo.png")
        if way == "timm":  # alone, it knows the class by number
            assert out.split() == [str(answer.indices[0])]
        else:
            assert answer.label in out, way
    assert answer.label in read_labels("imagenet1k")


def _config(model: object) -> bytes:
    import json

    return json.dumps(build_config(model)).encode()


@pytest.mark.parametrize("size", ["small", "base"])
def test_larger_weights_on_the_hub_have_the_snippets_that_were_run(size: str) -> None:
    ran, other = snippets("convit_tiny.fb_in1k"), snippets(f"convit_{size}.fb_in1k")
    renamed = {
        way: (language, code.replace("convit_tiny", f"convit_{size}"))
        for way, (language, code) in ran.items()
    }
    assert other == renamed


@pytest.mark.parametrize(("height", "width"), [(61, 83), (83, 61), (40, 40), (333, 500)])
@pytest.mark.parametrize("name", ["convit_tiny.fb_in1k", NANO])
def test_the_preprocessing_of_the_onnx_snippet_is_the_zoos_own(
    name: str, height: int, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = snippets(name)["ONNX Runtime"][1]
    steps = code[code.index("image = Image.open") : code.index("[logits]")]
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / IMAGE)
    monkeypatch.chdir(tmp_path)
    values: dict[str, np.ndarray] = {}
    exec("import numpy as np\nfrom PIL import Image\n" + steps, values)
    expected = zoo.build_transform(facts_of(name, NOTHING).cfg.input)(tmp_path / IMAGE).numpy()
    assert np.array_equal(values["pixels"], expected)
