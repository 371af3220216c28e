"""The ways to use weights, as snippets that a test runs as they stand.

They classify ``photo.png`` in the current folder and print the most probable label. `CHECKOUT` is
the folder of a clone. The card of a bundle reads from the repository that its reader stands on; the
one beside the catalogue loads by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoo.catalog.weights_records import InputSpec
from zoo.factory.description import PretrainedCfg

from .facts import CardFacts
from .metadata import REGISTERS, loads_in_plain_timm

CHECKOUT = "convattn-zoo"
IMAGE = "photo.png"
INSTALL = "pip install convattn-zoo"
PROJECT = ""  # address of the project, once it has one
_ADDS = f"`{REGISTERS}` adds our architectures."


def repo_of(facts: CardFacts) -> str:
    """The repository that snippets read a published bundle from."""
    return facts.repo or f"ORG/{facts.name}"


def _published(facts: CardFacts) -> str:
    """The repository at the tag of this version."""
    return f"{repo_of(facts)}@v{facts.cfg.version}" if facts.cfg.version else repo_of(facts)


def usage(facts: CardFacts) -> str:
    """Headed snippets: of a bundle, from its repository; of weights of a record, by their name."""
    if not facts.cfg.num_classes:
        return f"```bash\n{INSTALL}\n```\n\n" + _shown([_embedding(facts)])
    if facts.repo:
        first = [_from_bundle(facts), _embedding(facts)]
    else:
        first = [_create_model(facts), _torch_hub(facts)]
    name = f"hf-hub:{_published(facts)}" if facts.repo else facts.name
    parts = [*first, _timm(facts), _onnxruntime(facts), _command_line(name)]
    return "\n\n".join([_shown(parts), _transformers(facts)])


def _shown(parts: Sequence[tuple[str, str]]) -> str:
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts)


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


def _reference(cfg: PretrainedCfg) -> str:
    return f"{cfg.name}@{cfg.version}" if cfg.version else cfg.name


def _create_model(facts: CardFacts) -> tuple[str, str]:
    weights = facts.record.selected if facts.record else None
    where = "The weights lie in the package." if weights and weights.bundled else _pin(facts)
    code = f"""import zoo

model = zoo.create_model("{_reference(facts.cfg)}", pretrained=True).eval()
predict = zoo.Predictor.from_model(model)
print(predict("{IMAGE}").label)"""
    return "create_model", f"{where}\n\n{_python(code)}"


def _pin(facts: CardFacts) -> str:
    weights = facts.record.selected if facts.record else None
    if weights is None:
        return ""
    if not weights.pinned_on_first_use:
        return f"The weights come from `{weights.repo}` at commit `{weights.revision}`."
    return (
        f"The weights come from `{weights.repo}` on the Hub. Commit and SHA-256 are pinned on "
        "first use, announced, and binding afterwards."
    )


def _torch_hub(facts: CardFacts) -> tuple[str, str]:
    cfg = facts.cfg
    code = f"""import torch

model = torch.hub.load(
    "{CHECKOUT}", "{cfg.architecture}", source="local", pretrained=True, tag="{cfg.tag}"
).eval()
cfg = model.pretrained_cfg
with torch.inference_mode():
    logits = model(cfg.transform()("{IMAGE}")[None])
print(cfg.labels[int(logits.argmax())])"""
    text = f"`{CHECKOUT}` is a clone of the repository; nothing needs to be installed from it."
    return "torch.hub", f"{text}\n\n{_python(code)}"


def _timm(facts: CardFacts) -> tuple[str, str]:
    cfg, record = facts.cfg, facts.record
    weights = record.selected if record else None
    plain = loads_in_plain_timm(facts)
    if facts.repo or weights is None:
        name = f"hf-hub:{_published(facts)}"
        text = "timm builds this architecture itself." if plain else _ADDS
    elif plain and weights.repo:
        name, text = f"hf-hub:{weights.repo}", "timm builds this architecture itself."
    else:
        name, text = f"{cfg.timm_name}.{cfg.tag}", _ADDS
    ending = "number" if plain or not cfg.labels else 'model.pretrained_cfg["label_names"][number]'
    imports, registers = ("", "") if plain else ("\nimport zoo", f"{REGISTERS}\n")
    mode = _mode(cfg.input)
    code = f"""import timm
import torch{imports}
from PIL import Image

{registers}model = timm.create_model("{name}", pretrained=True).eval()
data = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**data, is_training=False)
with torch.inference_mode():
    number = int(model(transform(Image.open("{IMAGE}").convert("{mode}"))[None]).argmax())
print({ending})"""
    return "timm", f"{text}\n\n{_python(code)}"


def _transformers(facts: CardFacts) -> str:
    """Python's transformers, for images in colour, and transformers.js, on the bundle."""
    repo, version = repo_of(facts), facts.cfg.version
    keyword, option = "", ""
    if version:
        keyword, option = f'\n    revision="v{version}",', f', revision: "v{version}"'
    library = "@huggingface/transformers"
    python = f"""import zoo
from transformers import pipeline

{REGISTERS}
classify = pipeline(
    "image-classification",
    model="{repo}",{keyword}
)
print(classify("{IMAGE}")[0]["label"])"""
    script = f"""import {{ AutoImageProcessor, AutoModel, RawImage }} from "{library}";

const how = {{ dtype: "fp32"{option} }};
const model = await AutoModel.from_pretrained("{repo}", how);
const processor = await AutoImageProcessor.from_pretrained("{repo}", how);
const {{ logits }} = await model(await processor(await RawImage.read("{IMAGE}")));
console.log(model.config.id2label[logits.data.indexOf(Math.max(...logits.data))]);"""
    reads = f"**transformers** reads the bundle as one of timm's models:\n\n{_python(python)}\n\n"
    if facts.cfg.input.in_chans != 3:
        reads = ""  # for timm's models its processor opens every image in colour
    return (
        f"{reads}**transformers.js** runs its ONNX file; it resizes in its own way, so that "
        f"pixels, and the probabilities with them, differ a little (docs/hub.md):\n\n"
        f"```js\n{script}\n```"
    )


def _onnxruntime(facts: CardFacts) -> tuple[str, str]:
    cfg = facts.cfg
    where = "Neither torch nor this package is needed."
    if not facts.repo:
        where += (
            f" `{repo_of(facts)}` stands for the repository that `convattn bundle {cfg.name}` and "
            "`convattn publish` made."
        )
    revision = f', revision="v{cfg.version}"' if cfg.version else ""
    answer = "labels[int(logits.argmax())]" if cfg.labels else "int(logits.argmax())"
    code = f"""import json
import numpy as np
import onnxruntime
from huggingface_hub import hf_hub_download
from PIL import Image

repo = "{repo_of(facts)}"
file = hf_hub_download(repo, "onnx/model.onnx"{revision})
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])

{_preprocessing(cfg.input)}
[logits] = session.run(["logits"], {{"pixel_values": pixels[None]}})
print({answer})"""
    return "ONNX Runtime", f"{where}\n\n{_python(code)}"


def _mode(spec: InputSpec) -> str:
    """Pillow's name for the channels of an image."""
    return "L" if spec.in_chans == 1 else "RGB"


def _preprocessing(spec: InputSpec) -> str:
    """The steps of `zoo.data.preprocessing` for one image, written out for Pillow and numpy."""
    height, width = spec.size
    tall, wide = (math.floor(side / spec.crop_pct) for side in spec.size)
    lines = [f'image = Image.open("{IMAGE}").convert("{_mode(spec)}")']
    if tall == wide:
        lines.append(f"scale = {tall} / min(image.size)")
    else:
        lines.append(f"scale = max({tall} / image.height, {wide} / image.width)")
    lines += [
        "size = [int(scale * side + 1e-9) for side in image.size]",
        f"image = image.resize(size, Image.Resampling.{spec.interpolation.upper()})",
        f"left, top = round((size[0] - {width}) / 2), round((size[1] - {height}) / 2)",
        f"image = image.crop((left, top, left + {width}, top + {height}))",
        "values = np.asarray(image, np.float32) / 255",
    ]
    if spec.in_chans == 1:
        lines.append("values = values[..., None]")
    lines += [
        f"values = (values - np.float32({list(spec.mean)})) / np.float32({list(spec.std)})",
        "pixels = np.ascontiguousarray(values.transpose(2, 0, 1))",
    ]
    return "\n".join(lines)


def _command_line(name: str) -> tuple[str, str]:
    code = f"""convattn predict {name} {IMAGE}
convattn export {name} --out exported/
convattn verify exported/
convattn predict exported/onnx/model.onnx {IMAGE}"""
    return "Command line", f"```bash\n{code}\n```"


def _revision(facts: CardFacts) -> str:
    return f', revision="v{facts.cfg.version}"' if facts.cfg.version else ""


def _from_bundle(facts: CardFacts) -> tuple[str, str]:
    project = f"[convattn-zoo]({PROJECT})" if PROJECT else "`convattn-zoo`"
    code = f"""import zoo

model = zoo.from_pretrained("{repo_of(facts)}"{_revision(facts)}).eval()
predict = zoo.Predictor.from_model(model)
print(predict("{IMAGE}").label)"""
    text = f"{project} compares every byte with manifest.json."
    install = f"```bash\n{INSTALL}\n```"
    return "from_pretrained", f"{install}\n\n{text}\n\n{_python(code)}"


def _embedding(facts: CardFacts) -> tuple[str, str]:
    code = f"""import torch
import zoo

model = zoo.from_pretrained("{repo_of(facts)}"{_revision(facts)}, num_classes=0).eval()
with torch.inference_mode():
    features = model(model.pretrained_cfg.transform()("{IMAGE}")[None])
print(tuple(features.shape))"""
    return (
        "Embeddings",
        f"What the model sees before its classifier.\n\n{_python(code)}",
    )
