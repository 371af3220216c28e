"""Every reader of JSON on content of changed structure: it is read, or refused with our error."""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper

import zoo
from export.cards import render_card
from export.cards.facts import cfg_of, read_facts
from export.cards.figures import read_pictures
from export.parity.report import read_report
from export.parity.stored import read_test_data
from export.publishing.bundle import measured_metrics
from export.publishing.checks import PARITY
from export.runtime.session import decode_metadata
from zoo.analysis.gates import read_diagnostics
from zoo.analysis.sweep import sweep_study
from zoo.catalog import registry
from zoo.catalog.registry import get_record
from zoo.catalog.weights_records import InputSpec
from zoo.errors import MAX_MESSAGE, ZooError
from zoo.factory.config_json import build_config
from zoo.factory.transformers_models import _input_of
from zoo.files.manifest import parse_manifest, seal
from zoo.files.mirror import Ref
from zoo.files.pins import read_pins
from zoo.training.checkpoint import FORMAT_VERSION, read_checkpoint
from zoo.training.job import Job
from zoo.training.run import is_finished
from zoo.training.sweep import get_grid

from ..surroundings import write_anew
from .reading import calls

MEASURED = Path(__file__).parents[2] / "model_cards" / "measured"
TOTAL = 10_000
DIGEST, COMMIT = "0" * 64, "a" * 40
ENTRY = {"path": "config.json", "size_bytes": 3, "sha256": DIGEST}
PIN = {"repo": "org/name", "file": "f", "revision": COMMIT, "sha256": DIGEST, "size_bytes": 1}
RUN = {"settings": {"depth": 2}, "run": "r", "validation": {"acc1_percent": 90.0}, "test": None}
LAYER = {"name": "blocks.0.attn", "gates": [0.5, 0.1], "nonlocality": [1.0, 2.0]}
METRICS = {
    "model": "convit_nano", "data": "digits", "recipe": {"lr": 0.1}, "training_images": 3,
    "validation": {"acc1_percent": 9.0}, "test": None, "seconds": 1.0,
}  # fmt: skip
FACTS = {
    "job": {"model": "convit_nano"}, "optimizer": {"groups": [{"lr": 0.1}], "values": {}},
    "scaler": None, "epoch": 1, "best_epoch": 1, "seconds": 2.0,
    "curve": [{"epoch": 1, "loss": 1.0, "validation": {"correct": 1, "total": 2}, "seconds": 1.0,
               "lr": 0.1}],
}  # fmt: skip
RECORD = {
    "model": "convit_nano", "tag": "private", "version": "1.0.0", "sha256": DIGEST,
    "size_bytes": 1, "repo": "org/name", "revision": COMMIT, "overrides": {"depth": 2},
    "input": {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "metrics": [{"name": "acc1_percent", "value": 90.0, "dataset": "d", "source": "s"}],
}  # fmt: skip
PICTURES = {
    "weights_sha256": DIGEST,
    "pictures": [{"file": "a.png", "section": "metrics", "caption": "c"}],
}

Reader = Callable[[bytes, Path], object]


def _measured(name: str, of: str = "convit_nano.digits") -> Any:
    return json.loads((MEASURED / of / name).read_bytes())


def _short(report: Any) -> Any:
    return {**report, "rows": report["rows"][:2], "summary": []}


def _file(name: str, read: Callable[[Path], object]) -> Reader:
    def reader(data: bytes, folder: Path) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_anew(path, data)
        return read(path)

    return reader


def _build(path: Path) -> object:
    with torch.device("meta"):
        return zoo.create_model(str(path.parent))


def _sealed(data: bytes) -> bytes:
    """With the digest of its content, as whoever changes one on purpose writes it."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return seal(content).encode() if isinstance(content, dict) else data


def _catalog(path: Path) -> None:
    try:
        registry._read_catalog(str(path))
    finally:
        registry._registered.clear()


def _metadata(data: bytes, _: Path) -> None:
    text = data.decode(errors="replace")
    key = "input" if "{" in text else ("labels", "outputs")[len(text) % 2]
    found = decode_metadata({"exporter": "convattn-zoo 0.1.0, torch", key: text})
    InputSpec.from_dict(found["input"] or {})


def _card(path: Path) -> None:
    record = get_record("convit_nano.digits")
    facts = read_facts(cfg_of(record), record, path.parents[1])
    render_card(facts)


def _checkpoint(data: bytes, folder: Path) -> None:
    facts = data.decode(errors="replace")
    header = {"__metadata__": {"state": "0" * 64 + facts}}
    header["w"] = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + b"1"
    digest = hashlib.sha256(content).hexdigest()
    content = content.replace(b"0" * 64, digest.encode(), 1)
    write_anew(folder / "checkpoint.safetensors", content)
    read_checkpoint(folder)


def _samples(path: Path) -> None:
    if not path.with_name("eager_float32_error.pb").exists():
        _write_arrays(path)
    read_test_data(path.parents[1])


def _write_arrays(path: Path) -> None:
    for name, array in (("input_0", np.zeros((2, 3, 4, 4), "f4")), ("output_0", np.zeros((2, 2)))):
        path.with_name(f"{name}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    error = numpy_helper.from_array(np.zeros(2)).SerializeToString()
    path.with_name("eager_float32_error.pb").write_bytes(error)


def _finished(path: Path) -> None:
    write_anew(path.parent / "manifest.json", b"{}")
    is_finished(path.parent, Job(model="convit_nano", data="digits"))


CARD = "convit_nano.digits"
READERS: dict[str, tuple[Callable[[], Any], Reader]] = {
    "config": (
        lambda: build_config(zoo.create_model("convit_nano", depth=2)),
        _file("m/config.json", _build),
    ),
    "manifest": (
        lambda: {"format_version": 1, "name": "n", "version": "1.0.0", "architecture_version": 1,
                 "files": [ENTRY]},
        lambda data, _: parse_manifest(_sealed(data), "manifest.json"),
    ),
    "pins": (lambda: {"version": 1, "pins": [PIN]}, _file("pins.json", lambda _: read_pins())),
    "mirror": (
        lambda: {"format_version": 1, "repo": "o/n", "commit": COMMIT, "files": [ENTRY]},
        lambda data, _: Ref.from_json(data, "ref"),
    ),
    "catalog": (lambda: [RECORD], _file("catalog.json", _catalog)),
    "parity": (
        lambda: _short(_measured("parity.json")),
        _file("parity.json", lambda path: read_report(path).to_json()),
    ),
    "verdict": (lambda: _short(_measured("parity.json")), _file("parity.json", PARITY.read)),
    "metrics": (lambda: METRICS, _file("run/metrics.json", _finished)),
    "sweep": (
        lambda: {"model": "m", "data": "d", "rows": [RUN, {**RUN, "settings": {"depth": 3}}]},
        _file("sweep.json", sweep_study),
    ),
    "grid": (
        lambda: {"model": "convit_nano", "rows": [{"depth": 2, "recipe.lr": 0.1}], "seeds": [0],
                 "grid": {"depth": [1, 2]}, "set": {"epochs": 3}, "fractions": [0.5]},
        _file("grid.json", lambda path: get_grid(str(path))),
    ),
    "diagnostics": (
        lambda: {"epoch": 1, "layers": [LAYER]},
        _file("diagnostics.jsonl", lambda path: read_diagnostics(path.parent)),
    ),
    "metadata": (lambda: InputSpec().to_dict(), _metadata),
    "labels": (lambda: ["a", "b"], _metadata),
    "samples": (
        lambda: {"kinds": ["noise", "real"], "output": "logits"},
        _file("test_data_set_0/samples.json", _samples),
    ),
    "accuracy": (lambda: _measured("accuracy.json"), _file(f"{CARD}/accuracy.json", _card)),
    "training": (lambda: _measured("training.json"), _file(f"{CARD}/training.json", _card)),
    "speed": (
        lambda: _measured("speed.json", "alternet_18.random"),
        _file(f"{CARD}/speed.json", _card),
    ),
    "numbers": (
        lambda: _measured("accuracy.json"),
        _file("m/accuracy.json", lambda path: measured_metrics(path.parents[1], "m")),
    ),
    "pictures": (
        lambda: PICTURES,
        _file("pictures.json", lambda p: read_pictures(p.parent, _no_facts())),
    ),
    "processor": (
        lambda: {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True,
                 "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3},
        _file("preprocessor_config.json", lambda p: _input_of(str(p.parent), InputSpec())),
    ),
    "checkpoint": (lambda: {"format_version": FORMAT_VERSION, **FACTS}, _checkpoint),
}  # fmt: skip


def _no_facts() -> Any:
    record = get_record("convit_nano.digits")
    return read_facts(cfg_of(record), record, None)


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


VALUES = (
    None, True, False, 0, -1, 1.5, 2**40, -(2**80), 10**400, float("inf"), float("nan"), 1e308,
    5e-324, "", "x", "x" * 5000, "\ud800", "\0", "../../etc/passwd", [], {}, [[]], [None], {"a": 1},
    ["x"] * 50, [0] * 3, _deep(40),
)  # fmt: skip
RAW = (b"", b" ", b"null", b"[" * 100_000, b'{"a":' * 5_000, b"\xff\xfe", b"{}", b"[]", b"1",
       b'"x"', b"1e999", b"9" * 5_000, b"-Infinity", b'{"a": 1, "a": 2}')  # fmt: skip


def _places(value: Any, found: list[tuple[Any, Any]]) -> None:
    """(container, key) of everything inside a value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        found.append((value, key))
        if isinstance(value[key], dict | list):
            _places(value[key], found)


def mutated(content: Any, dice: random.Random) -> bytes:
    """JSON text of `content` with one to three changes of its structure."""
    if dice.random() < 0.02:
        return dice.choice(RAW)
    root = [copy.deepcopy(content)]
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        _places(root, places)
        container, key = dice.choice(places[: 20 if dice.random() < 0.5 else None])
        kind = dice.randrange(6)
        if kind == 0 and container is not root:
            del container[key]
        elif kind == 1 and isinstance(container[key], list) and container[key]:
            container[key] = container[key] * 2 if dice.random() < 0.5 else container[key][:-1]
        elif kind == 2 and isinstance(container[key], dict):
            name = dice.choice(("unknown", "", "x" * 300))
            container[key][name] = copy.deepcopy(dice.choice(VALUES))
        elif kind == 3:
            container[key] = [container[key]]
        else:
            container[key] = copy.deepcopy(dice.choice(VALUES))
    text = json.dumps(root[0], ensure_ascii=True)
    if dice.random() < 0.05:
        cuts = [at for at, mark in enumerate(text) if mark == "{"] or [0]
        at = dice.choice(cuts) + 1
        text = f'{text[:at]}"k": 1, "k": 2, {text[at:]}'
    if dice.random() < 0.03:
        text = text[: dice.randrange(len(text) + 1)]
    return text.encode()


@pytest.mark.parametrize("name", READERS)
def test_changed_structure_is_read_or_refused_with_an_error_of_ours(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATTN_HOME", str(tmp_path))
    sample, read = READERS[name]
    content, dice = sample(), random.Random(name)
    outcomes: Counter[object] = Counter()
    longest = ""
    for _ in range(-(-TOTAL // len(READERS))):
        data = mutated(content, dice)
        refusal = _refusal(lambda d=data: read(d, tmp_path), data)
        outcomes[refusal and refusal.exit_code] += 1
        longest = max(longest, str(refusal or ""), key=len)
    assert len(longest) <= MAX_MESSAGE, longest
    assert outcomes.keys() <= {None, 3, 4, 7}, outcomes
    assert outcomes.total() - outcomes[None] > 100, outcomes


def _refusal(read: Callable[[], object], data: bytes) -> ZooError | None:
    try:
        read()
    except ZooError as error:
        return error
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error} from {data[:400]!r}")
    return None


@pytest.mark.parametrize("name", READERS)
def test_the_unchanged_content_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATTN_HOME", str(tmp_path))
    sample, read = READERS[name]
    data = json.dumps(sample()).encode()
    refusal = _refusal(lambda: read(data, tmp_path), data)
    # types fit; the values speak of another run, of other weights
    allowed = {"metrics": "another_run", "pictures": "other_weights"}
    assert (refusal and refusal.code) == allowed.get(name), refusal


def test_json_from_elsewhere_is_decoded_in_one_place_only() -> None:
    def foreign(call: ast.Call) -> bool:
        source = ast.unparse(call.args[0]) if call.args else ""
        own = source.startswith(("json.dumps(", "to_json(")) or source.endswith(".to_json()")
        return ast.unparse(call.func) in ("json.loads", "json.load") and not own

    found = {where.rpartition(":")[0] for where, call in calls("zoo/", "export/") if foreign(call)}
    # the header of a safetensors file, whose reader has its own bounds
    assert found <= {"zoo/weights/safetensors_file.py"}
