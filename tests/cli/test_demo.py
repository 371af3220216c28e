"""`convattn demo`: its answers and files, and what it says without images."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.catalog.tables import sample_images
from zoo.cli import cli
from zoo.cli.demo import MODELS
from zoo.files.manifest import check_files, read_manifest


@pytest.mark.slow
def test_the_demo_goes_all_the_way(tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = CliRunner().invoke(cli, ["demo", "--out", str(out)], catch_exceptions=False)
    assert found.exit_code == 0
    for name in MODELS:
        answers = zoo.Predictor.from_model(zoo.create_model(name, pretrained=True).eval())
        for prediction in answers.predict(sample_images("fashion_mnist")):
            assert f"{prediction.label} ({100 * prediction.probabilities[0]:.0f} %)" in found.output
        check_files(out / name, read_manifest(out / name))
    assert found.output.count("10 of 10") == 2 * len(MODELS)
    for picture in ("predictions.png", "gpsa.png"):
        with Image.open(out / picture) as drawn:
            assert min(drawn.size) > 200


def test_a_folder_without_images_is_named_before_the_work(tmp_path: Path) -> None:
    found = CliRunner().invoke(
        cli, ["demo", "--out", str(tmp_path / "out"), "--images", str(tmp_path)]
    )
    assert found.exit_code != 0
    assert not (tmp_path / "out").exists()
