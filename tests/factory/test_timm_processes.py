"""What timm sees of the zoo, in processes of their own: registration cannot be undone."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.hub.server import HubServer, closed_network, running
from zoo.factory.config_json import build_config
from zoo.weights.safetensors_file import weights_bytes

ROOT = Path(__file__).resolve().parents[2]


def fresh(script: str, *arguments: str, **environment: str) -> Any:
    """What a script prints as JSON in a new process where every warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        cwd=ROOT,
        env={**environment} or None,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Registration

REGISTER = """
import importlib.util, json, sys, timm
from timm.models import model_entrypoint
def entries():
    return {name: id(model_entrypoint(name)) for name in timm.list_models()}
def alias(name):
    spec = importlib.util.spec_from_file_location(
        name, "zoo/__init__.py", submodule_search_locations=["zoo"])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    sys.modules[name].register_in_timm()
before = entries()
import zoo
after_zoo = entries()
zoo.create_model("convit_nano")
after_use = entries()
zoo.register_in_timm()
once = entries()
alias("_another_checkout")
zoo.register_in_timm()
print(json.dumps({
    "silent": before == after_zoo == after_use,
    "kept": all(once[name] == number for name, number in before.items()),
    "added": sorted(once.keys() - before.keys()),
    "idempotent": once == entries(),
    "models": zoo.list_models(),
}))
"""


@pytest.fixture(scope="module")
def registration() -> dict[str, Any]:
    return fresh(REGISTER)


def test_importing_and_using_the_zoo_registers_nothing(registration: dict[str, Any]) -> None:
    assert registration["silent"]


def test_every_model_is_registered_with_the_prefix(registration: dict[str, Any]) -> None:
    assert registration["added"] == sorted(f"zoo_{name}" for name in registration["models"])


def test_timms_own_entries_stay_as_they_were(registration: dict[str, Any]) -> None:
    assert registration["kept"]


def test_registering_again_and_under_a_hub_alias_changes_nothing(
    registration: dict[str, Any],
) -> None:
    assert registration["idempotent"]


def test_a_checkout_under_an_alias_registers_too_when_it_is_the_first() -> None:
    script = REGISTER.partition("before =")[0] + (
        'alias("_first"); import torch, zoo; zoo.register_in_timm()\n'
        'model = timm.create_model("zoo_convit_nano", pretrained=True)\n'
        'print(json.dumps([type(model).__module__, len(timm.list_models("zoo_*"))]))'
    )
    module, count = fresh(script)
    assert module == "_first.models.convit"
    assert count == len(zoo.list_models())


def test_a_name_that_someone_else_took_is_not_replaced() -> None:
    script = """
import json, timm
from timm.models import register_model, model_entrypoint
@register_model
def zoo_convit_nano(**kwargs): return "theirs"
try:
    import zoo
    zoo.register_in_timm()
except Exception as error:
    print(json.dumps([type(error).__name__, str(error), model_entrypoint("zoo_convit_nano")()]))
"""
    kind, text, left = fresh(script)
    assert kind == "DuplicateNameError"
    assert "timm has a model 'zoo_convit_nano' of __main__ already; it was not replaced" in text
    assert left == "theirs"


def test_nothing_else_in_the_zoo_imports_the_registry() -> None:
    for path in (*(ROOT / "zoo").rglob("*.py"), *(ROOT / "export").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                public = path == ROOT / "zoo" / "__init__.py"
                assert public or "timm_registry" not in ast.unparse(node), path


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with running() as server:
        yield server
        assert not server.unhandled


def test_hub_repositories_of_ours_load_through_timm(hub: HubServer, tmp_path: Path) -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    weights = weights_bytes(model)
    config = json.dumps(build_config(model)).encode()
    hub.repo("org/ours", {"config.json": config, "model.safetensors": weights})
    script = """
import hashlib, json, timm, zoo
zoo.register_in_timm()
from zoo.weights.safetensors_file import weights_bytes
model = timm.create_model("hf-hub:org/ours", pretrained=True)
digest = hashlib.sha256(weights_bytes(model)).hexdigest()
print(json.dumps([model.pretrained_cfg.name, digest]))
"""
    environment = {
        **closed_network(tmp_path),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }
    name, digest = fresh(script, **environment)
    assert name == "convit_nano.digits"
    assert digest == hashlib.sha256(weights).hexdigest()
