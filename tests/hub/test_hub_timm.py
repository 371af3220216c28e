"""timm reads what we publish, and we read what timm publishes."""

from __future__ import annotations

import json
from pathlib import Path

import zoo
from zoo.factory.config_json import build_config
from zoo.weights.safetensors_file import weights_bytes

from .client import FILE, catalog, python, sha256
from .server import HubServer

# What timm makes of org/ours@v1.0.0, beside our own loader.
READ_BY_TIMM = """
import json, sys
import timm, torch
from safetensors.torch import load_file
from huggingface_hub import hf_hub_download

name = "hf-hub:org/ours@v1.0.0"
model = timm.create_model(name, pretrained=True).eval()
stored = load_file(hf_hub_download("org/ours", "model.safetensors", revision="v1.0.0"))
state = model.state_dict()
loaded = set(sys.modules)
few = timm.create_model(name, pretrained=True, num_classes=3)
grey = timm.create_model(name, pretrained=True, in_chans=1)
first = "patch_embed.proj.weight"
result = {
    "class": type(model).__module__,
    "equal": state.keys() == stored.keys() and all(torch.equal(state[k], stored[k]) for k in state),
    "few": [few.num_classes, list(few.head.weight.shape)],
    "rest": all(torch.equal(few.state_dict()[k], stored[k]) for k in stored if "head" not in k),
    "grey": torch.allclose(grey.state_dict()[first], stored[first].sum(1, keepdim=True), atol=1e-6),
    "labels": len(model.pretrained_cfg.get("label_names") or ()),
    "input": timm.data.resolve_model_data_config(model)["input_size"],
    "zoo": "zoo" in sys.modules,
}
import zoo
ours = zoo.create_model(name, pretrained=True).eval()
x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    result["difference"] = float((ours(x) - model(x)).abs().max())
print(json.dumps(result))
"""

# Our own architectures in timm, after the bridge is imported.
BRIDGE = """
import json
import timm, torch, zoo
zoo.register_in_timm()
name = "hf-hub:org/bridge@v1.0.0"
model = timm.create_model(name, pretrained=True).eval()
few = timm.create_model(name, pretrained=True, num_classes=3)
plain = zoo.create_model("convit_nano.digits@1.0.0", pretrained=True)
equal = all(torch.equal(v, plain.state_dict()[k]) for k, v in model.state_dict().items())
print(json.dumps([equal, few.num_classes, model.pretrained_cfg["tag"]]))
"""

# What timm published, through a record of ours.
READ_FROM_TIMM = """
import json
import timm, torch, zoo
model = zoo.create_model("convit_tiny.theirs@1.0.0", pretrained=True).eval()
by_place = zoo.create_model("hf-hub:org/theirs", pretrained=True).eval()
timms = timm.create_model("hf-hub:org/theirs", pretrained=True).eval()
x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    found = [float((m(x) - timms(x)).abs().max()) for m in (model, by_place)]
state = model.state_dict()
equal = all(torch.equal(state[k], v) for k, v in timms.state_dict().items())
print(json.dumps([found, equal, model.pretrained_cfg.sha256]))
"""


def test_timm_loads_what_we_publish_bit_for_bit_and_adapts_it(
    hub: HubServer, tmp_path: Path
) -> None:
    model = zoo.create_model("convit_tiny")
    config = json.dumps(build_config(model)).encode()
    hub.repo("org/ours", {"config.json": config, FILE: weights_bytes(model)})
    hub.repos["org/ours"].refs["v1.0.0"] = hub.repos["org/ours"].refs["main"]
    found = python(READ_BY_TIMM, tmp_path, hub.endpoint)
    assert found["class"] == "timm.models.convit"
    assert found["equal"]
    assert not found["zoo"]
    assert found["few"] == [3, [3, 192]]
    assert found["rest"]
    assert found["grey"]
    assert (found["labels"], found["input"]) == (1000, [3, 224, 224])
    assert found["difference"] < 1e-5


def test_a_bundle_of_our_own_loads_in_timm_after_importing_the_bridge(
    hub: HubServer, bundle: Path, tmp_path: Path
) -> None:
    files = {p.relative_to(bundle).as_posix(): p for p in bundle.rglob("*") if p.is_file()}
    repo = hub.repo("org/bridge", {path: file.read_bytes() for path, file in files.items()})
    repo.refs["v1.0.0"] = repo.refs["main"]
    assert python(BRIDGE, tmp_path, hub.endpoint) == [True, 3, "digits"]


def test_a_repository_that_timm_wrote_loads_through_our_record(
    hub: HubServer, tmp_path: Path
) -> None:
    import timm

    theirs = timm.create_model("convit_tiny", pretrained=False)
    timm.models.save_for_hf(theirs, tmp_path / "saved", safe_serialization=True)
    files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    assert set(files) == {"config.json", FILE}
    commit = hub.repo("org/theirs", files).refs["main"]
    record = {
        "model": "convit_tiny",
        "tag": "theirs",
        "version": "1.0.0",
        "repo": "org/theirs",
        "revision": commit,
        "sha256": sha256(files[FILE]),
        "size_bytes": len(files[FILE]),
    }
    variables = catalog(tmp_path / "c.json", record)
    differences, equal, digest = python(READ_FROM_TIMM, tmp_path, hub.endpoint, **variables)
    assert max(differences) < 1e-5
    assert equal
    assert digest == sha256(files[FILE])
