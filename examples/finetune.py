"""From a folder of images to weights that another machine loads: the whole way, on this machine.

    python examples/finetune.py [--out finetune-out]        # or: make demo-finetune

The folders hold real scans of digits that the bundled weights have not been trained on, sorted into
the classes "even" and "odd": a question that they have never been asked. They are trained on,
evaluated, exported, bundled with a card and published by the command line, as one would type it,
to the small Hub of the tests. Then four readers with fresh caches load what was published: in a
virtual environment of their own, two of them before and two after the wheel is installed in it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.hub.client import TOKEN, environment  # noqa: E402
from tests.hub.server import HubServer, running  # noqa: E402
from tests.hub.stranger import Stranger  # noqa: E402
from zoo.data.digits import load_digits  # noqa: E402
from zoo.files.processes import run_python  # noqa: E402

START, REPO, VERSION = "convit_nano", "you/even_or_odd", "1.0.0"
PER_DIGIT = 5  # of each of the two parts, in each of the two folders: 2 * 5 * 10 = 100 images
CARD = """\
## Data
Scans of handwritten digits from the UCI repository, as scikit-learn ships them, sorted into even
and odd.

## Intended use
Showing the way from a folder to published weights.

## Limits
Single digits in the middle of the picture, bright on black; nothing else.

## Licence of the data
CC BY 4.0
"""
READ_TORCH_HUB = """
import torch
from huggingface_hub import snapshot_download
folder = snapshot_download(REPO, revision=TAG)
model = torch.hub.load("org/convattn-zoo:v0.1.0", START, pretrained=True, directory=folder,
                       trust_repo=True, verbose=False).eval()
cfg = model.pretrained_cfg
print(cfg.labels[int(model(cfg.transform()(IMAGE)[None]).argmax())])
"""
READ_ZOO = """
import zoo, sys
assert zoo.__file__.startswith(sys.prefix), zoo.__file__
model = zoo.from_pretrained(REPO, revision=TAG).eval()
print(zoo.Predictor.from_model(model)(IMAGE).label)
"""
READ_TIMM = """
import timm, zoo
from PIL import Image
zoo.register_in_timm()
model = timm.create_model(f"hf-hub:{REPO}@{TAG}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
number = int(model(transform(Image.open(IMAGE).convert("RGB"))[None]).argmax())
print(model.pretrained_cfg["label_names"][number])
"""
READ_ONNX = """
import json, sys
import numpy as np, onnxruntime
from huggingface_hub import hf_hub_download
from PIL import Image
session = onnxruntime.InferenceSession(hf_hub_download(REPO, "onnx/model.onnx", revision=TAG),
                                       providers=["CPUExecutionProvider"])
steps = json.load(open(hf_hub_download(REPO, "preprocessor_config.json", revision=TAG)))
side = steps["size"]["shortest_edge"]
image = Image.open(IMAGE).convert("RGB").resize((side, side), steps["resample"])
pixels = np.asarray(image, np.float32) * np.float32(steps["rescale_factor"])
pixels = (pixels - np.float32(steps["image_mean"])) / np.float32(steps["image_std"])
[logits] = session.run(["logits"], {"pixel_values": pixels.transpose(2, 0, 1)[None]})
assert not {"torch", "zoo"} & sys.modules.keys()
print(json.loads(session.get_modelmeta().custom_metadata_map["labels"])[int(logits.argmax())])
"""
ONNX = "ONNX Runtime, without torch and without the zoo"
WITHOUT = {"torch.hub": READ_TORCH_HUB, ONNX: READ_ONNX}
WITH_WHEEL = {"zoo.from_pretrained": READ_ZOO, "timm": READ_TIMM}


def write_scans(folder: Path, first: int) -> int:
    """``folder/{even,odd}/*.png``, from the `first` scan of every digit; returns their number."""
    count = 0
    for part in ("validation", "test"):
        data = load_digits(part)
        for digit in range(10):
            place = folder / ("odd" if digit % 2 else "even")
            place.mkdir(parents=True, exist_ok=True)
            found = (data.targets == digit).nonzero()[0][first : first + PER_DIGIT]
            for number, index in enumerate(found):
                Image.fromarray(data.images[index]).save(place / f"{part}_{digit}_{number}.png")
                count += 1
    return count


def say(text: str) -> None:
    """Print, at once: the processes print too."""
    print(text, flush=True)


def convattn(*words: str, cwd: Path, hub: HubServer, show: bool = True) -> str:
    """Run a command in `cwd`, as the owner of the Hub's repository; stop if it fails.

    Returns: what it printed.
    """
    if show:
        say(f"\n$ convattn {' '.join(words)}")
    variables = environment(cwd / "owner", hub.endpoint, HF_TOKEN=TOKEN, PYTHONWARNINGS="ignore")
    errors = subprocess.STDOUT if show else subprocess.PIPE
    done = run_python(
        "-m", "zoo", *words,
        cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True,
    )  # fmt: skip
    if show or done.returncode:
        say(done.stdout.rstrip("\n") + (done.stderr or ""))
    if done.returncode:
        sys.exit(done.returncode)
    return str(done.stdout)


def read(stranger: Stranger, script: str, home: Path, hub: HubServer, image: Path) -> str:
    """What a process with a cache of its own answers, which has the published files only."""
    place = home / "torch" / "hub" / "org_convattn-zoo_v0.1.0"  # where torch.hub keeps a tag
    place.mkdir(parents=True)
    shutil.copy(ROOT / "hubconf.py", place)
    shutil.copytree(ROOT / "zoo", place / "zoo", ignore=shutil.ignore_patterns("__pycache__"))
    names = {"REPO": REPO, "TAG": f"v{VERSION}", "START": START, "IMAGE": str(image.resolve())}
    head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    return stranger.run(head + script, home, hub.endpoint)


def read_all(out: Path, hub: HubServer, image: Path) -> list[str]:
    """The answers of the four readers, in an environment of their own."""
    stranger, answers = Stranger(out / "reader"), []
    for scripts in (WITHOUT, WITH_WHEEL):
        if scripts is WITH_WHEEL:
            say(f"another environment, now with {stranger.install().name}:")
        else:
            say("another environment, without this project:")
        for name, script in scripts.items():
            home = out / "readers" / str(len(answers))
            answers.append(read(stranger, script, home, hub, image))
            say(f"  {answers[-1]:<5} {name}")
    return answers


def make(out: Path, hub: HubServer) -> None:
    """Folder, training, evaluation, export, card, and the published repository."""
    count, others = write_scans(out / "photos", 0), write_scans(out / "held_out", PER_DIGIT)
    say(f"photos/ and held_out/ hold {count} and {others} images in even/ and odd/")
    convattn("train", START, "--data", "photos", "--out", "run", cwd=out, hub=hub)
    convattn("evaluate", "run", "--data", "held_out", cwd=out, hub=hub)
    say("\nrun/CARD.md asks for what only you know; here it is written by this script")
    (out / "run" / "CARD.md").write_text(CARD, encoding="utf-8")
    convattn(
        "bundle", "run", "--out", "bundle", "--repo", REPO, "--version", VERSION,
        "--licence", "mit", "--data", "photos", cwd=out, hub=hub,
    )  # fmt: skip
    convattn("verify", "bundle", cwd=out, hub=hub)
    to = ("--repo", REPO, "--tag", f"v{VERSION}", "--yes")
    convattn("publish", "bundle", *to, cwd=out, hub=hub)


def main() -> None:
    """The whole way, from a folder to four readers that agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("finetune-out"))
    out: Path = parser.parse_args().out
    started = time.perf_counter()
    for name in ("photos", "held_out", "run", "bundle", "owner", "reader", "readers"):
        shutil.rmtree(out / name, ignore_errors=True)
    with running() as hub:
        hub.tokens.add(TOKEN)
        make(out, hub)
        image = out / "held_out" / "odd" / "test_7_0.png"
        shown = convattn(
            "predict", "run", str(image.resolve()), "--json", cwd=out, hub=hub, show=False
        )
        expected = json.loads(shown)[0]["top"][0]["label"]
        say(f"\nheld_out/odd/{image.name}: the run answers {expected}; the published weights in")
        answers = read_all(out, hub, image)
        assert not hub.unhandled, hub.unhandled
    if answers != [expected] * len(answers):
        sys.exit("the readers do not agree with the run")
    took, spent = time.perf_counter() - started, sum(os.times()[:4])
    say(f"\nfrom the folder to four readers in {took:.0f} s, {spent:.0f} s of the processor")


if __name__ == "__main__":
    main()
