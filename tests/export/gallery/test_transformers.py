"""A bundle in transformers.js and in Python's transformers, by the lines of its card."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import zoo
from benchmarks.browser import SITE
from export import write_bundle
from export.cards.document import render
from export.cards.facts import facts_of
from export.cards.usage import repo_of
from zoo.catalog.tables import sample_images

from ...hub.server import HubServer
from ..cards.test_usage import IMAGE, NOTHING, ROOT, run
from .test_browser import BUNDLED

SEVEN = ROOT / "examples" / "digit_7.png"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name == "convit_nano.digits" else pytest.mark.slow)
        for name in BUNDLED
    ],
)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model of each architecture; its folder has the model's name."""
    model = zoo.create_model(request.param, pretrained=True).eval()
    out = tmp_path_factory.mktemp("bundles") / request.param
    return write_bundle(model, out, formats=("onnx",), precisions=()).directory


@pytest.fixture
def picture(bundle: Path) -> Path:
    """Of what the model is for."""
    return sample_images(bundle.name.partition(".")[2])[7]


def answer(bundle: Path, picture: Path) -> zoo.Prediction:
    """What the model itself says."""
    model = zoo.create_model(bundle.name, pretrained=True).eval()
    return zoo.Predictor.from_model(model)(picture)


def block(bundle: Path, language: str) -> str:
    """The card's lines for transformers (python) or transformers.js (js)."""
    text = render(facts_of(bundle.name, NOTHING)).partition("**transformers** reads")[2]
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)[0]


def publish(hub: HubServer, bundle: Path) -> None:
    files = [path for path in bundle.rglob("*") if path.is_file()]
    content = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files}
    facts = facts_of(bundle.name, NOTHING)
    repo = hub.repo(repo_of(facts), content)
    repo.refs[f"v{facts.cfg.version}"] = repo.refs["main"]


def test_config_names_its_type_and_its_classes(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text())
    assert config["model_type"] == "timm_wrapper"
    labels = zoo.create_model(bundle.name, pretrained=True).pretrained_cfg.labels
    assert len(labels) == 10
    assert config["id2label"] == {str(index): label for index, label in enumerate(labels)}
    assert config["label2id"] == {label: index for index, label in enumerate(labels)}
    assert config["architecture"] == f"zoo_{bundle.name.partition('.')[0]}"


def test_classes_without_names_and_names_that_occur_twice_have_numbers() -> None:
    from export.publishing.transformers_config import transformers_keys

    cfg = zoo.PretrainedCfg(
        architecture="x", architecture_version=1, num_classes=3, input=zoo.InputSpec()
    )
    assert transformers_keys(cfg)["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    twice = zoo.PretrainedCfg(**{**vars(cfg), "labels": ("crane", "owl", "crane")})
    assert transformers_keys(twice)["label2id"] == {"crane": 0, "owl": 1}


def test_transformers_in_python_answers_by_the_lines_of_the_card(
    bundle: Path, hub: HubServer, picture: Path, tmp_path: Path
) -> None:
    publish(hub, bundle)
    out = run(("python", block(bundle, "python")), tmp_path, hub.endpoint, picture)
    assert out.splitlines()[-1] == answer(bundle, picture).label


def node(script: Path, *arguments: str) -> str:
    command = ["node", str(script), *arguments]
    done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_transformers_js_answers_by_the_lines_of_the_card(
    node_needed: None, bundle: Path, hub: HubServer, picture: Path, tmp_path: Path
) -> None:
    publish(hub, bundle)
    (tmp_path / "node_modules").symlink_to(SITE / "node_modules")
    (tmp_path / IMAGE).write_bytes(picture.read_bytes())
    setting = 'import { env } from "@huggingface/transformers";\n'
    setting += f'env.remoteHost = "{hub.endpoint}/"; env.cacheDir = "./cache/";\n'
    script = tmp_path / "card.mjs"
    script.write_text(setting + block(bundle, "js"))
    assert node(script).splitlines()[-1] == answer(bundle, picture).label


def test_pipeline_of_transformers_js_takes_the_config_in_memory(
    node_needed: None, bundle: Path, tmp_path: Path
) -> None:
    image = tmp_path / "seven.png"  # of the model's own size: nothing is resized on either side
    model = zoo.create_model(bundle.name, pretrained=True).eval()
    size = model.pretrained_cfg.input.size
    Image.open(SEVEN).convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC).save(image)
    arguments = (str(bundle.parent), bundle.name, str(image))
    found = json.loads(node(SITE / "transformers.mjs", *arguments))
    ours = zoo.Predictor.from_model(model)(image)
    assert found["label"] == found["pipeline"]["label"] == ours.label
    assert found["pipeline"]["score"] == pytest.approx(ours.probabilities[0], abs=1e-4)
