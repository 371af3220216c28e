"""`--json` of every verb that fails: one object on standard output, one line on standard error, and
nothing written.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zoo.cli import _VERBS, main

CALLS = {
    "info": "info no_such_model",
    "predict": "predict no_such_model photo.png",
    "predict, a missing image": "predict resnet_nano missing.png",
    "embed": "embed no_such_model --data digits --out made.npz",
    "evaluate": "evaluate resnet_nano --data missing_folder",
    "train": "train no_such_model --data digits --out made",
    "train, a folder without images": "train resnet_nano --data . --out made",
    "import": "import missing.pth --model resnet_nano --out made",
    "export": "export no_such_model --out made",
    "export, parity": "export py:own.py:Drifting --format onnx --img-size 8 --init 0 --out made",
    "verify": "verify missing_folder",
    "bundle": "bundle missing_folder --out made",
    "publish": "publish missing_folder --repo org/name --tag v1.0.0 --yes",
    "fetch": "fetch no_such_model",
    "pin": "pin not_a_repository",
    "cache": "cache verify no_such_model",
    "card": "card no_such_model",
    "bench": "bench model no_such_model",
    "gallery": "gallery no_such_model --out made",
    "analyze": "analyze fourier no_such_model --data digits --out made",
}
PARITY = 7
OWN = """
import torch
from torch import nn

class Drifting(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 3, 8, 8))

    def forward(self, x):
        offset = 0.0 if x.dtype == torch.float64 else 1e-3
        return (x * self.weight).flatten(1)[:, :5] + offset
"""
WITHOUT_JSON = {"list", "cite", "doctor", "demo"}  # cannot fail by their words, or print no JSON


@pytest.mark.parametrize("name", CALLS)
def test_a_failing_verb_prints_one_object(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(SystemExit) as stopped:
        main([*CALLS[name].split(), "--json"])
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert set(content["error"]) == {"code", "message"}
    assert content["error"]["code"] not in ("", "bug")
    assert f"error: {content['error']['message']}" in err.splitlines()
    assert len(content["error"]["message"]) <= 300
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]
    if name == "export, parity":
        assert stopped.value.code == PARITY
        assert not content["parity"]["passed"]
        assert any(not row["passed"] for row in content["parity"]["rows"])
    else:
        assert stopped.value.code in (2, 3, 4, 5, 6)
        assert set(content) == {"error"}


def test_every_verb_is_in_the_table() -> None:
    assert {name.partition(",")[0] for name in CALLS} == set(_VERBS) - WITHOUT_JSON
