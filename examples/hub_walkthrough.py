"""The whole way over a Hub on this machine: publish two versions, load them five ways, break one.

    python examples/hub_walkthrough.py        # or: make demo-hub

The Hub is the small one of the tests; the clients are the genuine huggingface_hub, timm, torch.hub
and ONNX Runtime, each in a process of its own with a fresh cache and no way to another host.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.hub.client import TOKEN, catalog, convattn, environment, publish  # noqa: E402
from tests.hub.server import HubServer, running  # noqa: E402
from zoo.files.processes import run_python  # noqa: E402

REPO = "org/convit_nano"
SCAN = ROOT / "examples" / "digit_7.png"
LABELLED = """
import zoo
def label(model):
    cfg = model.pretrained_cfg
    logits = model.eval()(cfg.transform()(SCAN)[None])
    return cfg.sha256[:12], "answers", cfg.labels[int(logits.argmax())]
"""
BY_NAME = """
for version in ("1.0.0", "1.1.0"):
    model = zoo.create_model("convit_nano.demo@" + version, pretrained=True)
    print("  convit_nano.demo@" + version, *label(model))
"""
FROM_PRETRAINED = """
print("  v1.0.0", *label(zoo.from_pretrained(REPO, revision="v1.0.0")))
"""
TORCH_HUB = """
import torch
for version in ("1.0.0", "1.1.0"):
    model = torch.hub.load("org/convattn-zoo:v0.1.0", "convit_nano", pretrained=True, tag="demo",
                           version=version, trust_repo=True, verbose=False)
    print("  version=" + version, *label(model))
"""
TIMM = """
import timm, torch, zoo
from PIL import Image
zoo.register_in_timm()
for tag in ("v1.0.0", "v1.1.0"):
    model = timm.create_model("hf-hub:" + REPO + "@" + tag, pretrained=True).eval()
    data = timm.data.resolve_model_data_config(model)
    image = timm.data.create_transform(**data)(Image.open(SCAN).convert("RGB"))
    names = model.pretrained_cfg["label_names"]
    print("  " + tag, "answers", names[int(model(image[None]).argmax())])
"""
PLAIN = """
import json, sys
import numpy as np, onnxruntime
from huggingface_hub import hf_hub_download
from PIL import Image
for tag in ("v1.0.0", "v1.1.0"):
    file = hf_hub_download(REPO, "onnx/model.onnx", revision=tag)
    steps = json.load(open(hf_hub_download(REPO, "preprocessor_config.json", revision=tag)))
    labels = json.load(open(hf_hub_download(REPO, "config.json", revision=tag)))["label_names"]
    size = steps["size"]["shortest_edge"]
    image = Image.open(SCAN).convert("RGB").resize((size, size), steps["resample"])
    x = np.asarray(image, np.float32) * np.float32(steps["rescale_factor"])
    x = (x - np.float32(steps["image_mean"])) / np.float32(steps["image_std"])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"pixel_values": x.transpose(2, 0, 1)[None]})
    print("  " + tag, "answers", labels[int(logits.argmax())])
print("  torch loaded:", "torch" in sys.modules)
"""


class Walk:
    """The Hub, a folder for caches, and what the steps share."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.home = folder / "home"
        self.variables: dict[str, str] = {}

    def run(self, script: str, home: Path | None = None, **variables: str) -> None:
        """Run a script in a process of its own; show what it prints and how often it asked."""
        before = len(self.hub.log)
        head = f"REPO, SCAN = {REPO!r}, {str(SCAN)!r}\n"
        place = home or self.home
        done = run_python(
            "-c",
            head + script,
            env=environment(place, self.hub.endpoint, PYTHONWARNINGS="ignore", **variables),
            cwd=place,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        say(done.stdout.rstrip("\n"))
        asked = self.hub.log[before:]
        heads = sum(method == "HEAD" for method, _, _ in asked)
        say(f"  requests: {len(asked)} ({heads} HEAD, {len(asked) - heads} other)")

    def command(self, *arguments: str | Path, **variables: str) -> None:
        """Run the command `convattn` and show its output."""
        shown = " ".join(part.name if isinstance(part, Path) else part for part in arguments)
        say(f"  $ convattn {shown}")
        ran = convattn(self.home, self.hub.endpoint, *arguments, **self.variables, **variables)
        text = (ran.out + ran.err).replace(str(self.folder), "...")
        for line in text.splitlines():
            say(f"  {line}")
        say(f"  exit code {ran.code}")


def say(text: str) -> None:
    """Print, at once: the processes print too."""
    print(text, flush=True)


def make_bundles(folder: Path) -> dict[str, Path]:
    """Two versions: the bundled digits weights, and the same rounded to bfloat16."""
    import export
    import zoo
    from zoo.catalog.weights_records import Metric

    scans = sorted((ROOT / "examples").glob("digit_*.png"))
    found = {}
    for version in ("1.0.0", "1.1.0"):
        model = zoo.create_model("convit_nano", pretrained=True)
        if version == "1.1.0":
            model.load_state_dict({k: v.bfloat16().float() for k, v in model.state_dict().items()})
        cfg = replace(model.pretrained_cfg, tag="demo", version=version)
        model.pretrained_cfg = replace(cfg, sha256="")  # weights of no file yet
        answers = zoo.Predictor.from_model(model).predict([str(scan) for scan in scans])
        right = sum(a.label == s.stem[-1] for a, s in zip(answers, scans, strict=True))
        source = "examples/hub_walkthrough.py on examples/digit_*.png"
        metric = Metric(
            name="acc1_percent", value=100 * right / len(scans), dataset="10 scans", source=source
        )
        found[version] = folder / f"bundle-{version}"
        export.write_bundle(model, found[version], metrics=(metric,))
    return found


def publish_both(walk: Walk, bundles: dict[str, Path]) -> list[dict[str, Any]]:
    """Publish; the records that this prints."""
    walk.command("publish", bundles["1.0.0"], "--repo", REPO, "--tag", "v1.0.0")
    records = []
    for version, bundle in bundles.items():
        for _ in range(2):
            result = publish(walk.home, walk.hub.endpoint, bundle, REPO, f"v{version}").json
            state = "published" if result["changed"] else "nothing to do"
            say(f"  v{version}: {state}, commit {result['commit'][:12]}")
        records.append(result["record"])
    other = bundles["1.1.0"] / "LICENSE"
    other.write_text(other.read_text() + "changed\n")
    walk.command("publish", bundles["1.1.0"], "--repo", REPO, "--tag", "v1.1.0", HF_TOKEN=TOKEN)
    return records


def install_torch_hub(home: Path) -> None:
    """Put what `git archive` of this checkout would hold where torch.hub keeps a tag."""
    place = home / "torch" / "hub" / "org_convattn-zoo_v0.1.0"
    place.mkdir(parents=True)
    shutil.copy(ROOT / "hubconf.py", place)
    shutil.copytree(ROOT / "zoo", place / "zoo", ignore=shutil.ignore_patterns("__pycache__"))


def break_and_heal(walk: Walk, catalogue: dict[str, str]) -> None:
    """Flip one bit of a cached file."""
    cache = walk.home / "hf" / "hub" / f"models--{REPO.replace('/', '--')}"
    weights = next((cache / "snapshots").glob("*/model.safetensors")).resolve()
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    say("  flipped one bit of model.safetensors in the cache")
    walk.command("cache", "verify")
    walk.run(LABELLED + BY_NAME, **catalogue)
    walk.command("cache", "verify")


def verification_cost() -> None:
    """Best of seven passes of SHA-256 over a file of convit_tiny's size."""
    from zoo.files.local import sha256_bytes

    data = bytes(22_900_000)
    best = min(_seconds(lambda: sha256_bytes(data)) for _ in range(7))
    rate = len(data) / best / 1e6
    say(f"  SHA-256 of {len(data) / 1e6:.1f} MB: {1000 * best:.0f} ms, {rate:.0f} MB/s")


def _seconds(run: Any) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Walk."""
    with tempfile.TemporaryDirectory() as name, running() as hub:
        hub.tokens.add(TOKEN)
        walk = Walk(hub, Path(name))
        say("1. Write two bundles, publish them, publish them again, and try other bytes")
        records = publish_both(walk, make_bundles(walk.folder))
        catalogue = catalog(walk.folder / "catalog.json", *records)
        walk.variables = catalogue
        install_torch_hub(walk.home)
        say("\n2. zoo.create_model by name and version: cold, warm, offline")
        walk.run(LABELLED + BY_NAME, **catalogue)
        walk.run(LABELLED + BY_NAME, **catalogue)
        walk.run(LABELLED + BY_NAME, HF_HUB_OFFLINE="1", **catalogue)
        say("\n3. zoo.from_pretrained: every byte against manifest.json")
        walk.run(LABELLED + FROM_PRETRAINED)
        say("\n4. torch.hub, version by version, from a checkout in its cache")
        walk.run(LABELLED.replace("import zoo", "") + TORCH_HUB, **catalogue)
        say("\n5. timm.create_model('hf-hub:...@tag') with a cache of its own")
        walk.run(TIMM, walk.folder / "timm")
        say("\n6. hf_hub_download and ONNX Runtime, without the zoo and without torch")
        walk.run(PLAIN, walk.folder / "plain")
        say("\n7. Break the cache; it is detected, and the next load heals it")
        break_and_heal(walk, catalogue)
        say("\n8. What verification costs")
        verification_cost()
        assert not hub.unhandled, hub.unhandled


if __name__ == "__main__":
    main()
