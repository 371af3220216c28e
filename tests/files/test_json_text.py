"""What is printed or written for others is JSON that every reader accepts."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

from zoo.files.json_text import to_json

ROOT = Path(__file__).resolve().parents[2]
# digests, copies, checks, and states that only we read: a diverged run, an unfinished landscape
OWN = {
    *("zoo/evaluation/evaluate.py", "zoo/training/run.py", "zoo/training/sweep.py"),
    *("zoo/analysis/sweep.py", "zoo/analysis/landscape.py", "zoo/files/json_text.py"),
    *("zoo/files/manifest.py", "zoo/factory/transformers_models.py", "zoo/catalog/checked_json.py"),
    *("export/formats/metadata.py", "export/formats/pt2_file.py", "export/formats/aoti_file.py"),
    *("export/formats/torchscript_file.py", "export/speed/loading_cost.py"),
}


def test_numbers_that_json_lacks_become_null() -> None:
    value = {"a": [math.nan, 1.5, (math.inf, -math.inf)], "b": {"c": math.nan, "d": "NaN"}}
    assert json.loads(to_json(value), parse_constant=lambda _: "wrong") == {
        "a": [None, 1.5, [None, None]],
        "b": {"c": None, "d": "NaN"},
    }


def test_texts_that_utf_8_cannot_hold_are_spelled_out() -> None:
    value = {"caf\udce9": ["\ud800", "naïve 猫"]}
    assert json.loads(to_json(value)) == {"caf\\xe9": ["\\ud800", "naïve 猫"]}


def test_all_json_for_others_is_made_in_one_place() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("zoo", "export")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "json.dump")
    }
    assert found == OWN
