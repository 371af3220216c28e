"""What a figure shows is seen: names in any script, whole epochs, nothing behind a legend."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest

from zoo.analysis import _lettering
from zoo.analysis._figure import legend_above, new_figure, save, whole_numbers
from zoo.analysis._lettering import class_names, families_for
from zoo.analysis.reliability import plot_confusion
from zoo.data.dataset import in_memory
from zoo.evaluation.evaluate import Evaluation, evaluate

pytest.importorskip("matplotlib")


def _evaluated(labels: tuple[str, ...], name: str = "photos/test") -> Evaluation:
    classes = len(labels)
    targets = np.arange(12) % classes
    images = in_memory(name, labels, np.zeros((12, 2, 2, 3), np.uint8), targets)
    return evaluate(lambda x: np.zeros((len(x), classes)), images, resamples=0)


def test_names_that_our_font_has_are_drawn_in_it() -> None:
    names = ("Hund", "кот", "γάτα", "$a_b$")
    assert class_names(names) == (list(names), ["DejaVu Sans"])


def test_a_font_of_the_machine_helps_out() -> None:
    only_in_stix = "\N{COMBINING ASTERISK BELOW}"
    assert class_names(["a", only_in_stix]) == (["a", only_in_stix], ["DejaVu Sans", "STIXGeneral"])


def test_classes_are_numbers_where_no_font_has_their_letters() -> None:
    unassigned = "\U0003fffd"
    assert class_names(["a", unassigned]) == (["0", "1"], ["DejaVu Sans"])


def test_what_must_be_joined_is_not_drawn_letter_by_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lettering, "_joins", lambda: False)
    assert families_for("قط") is None
    monkeypatch.setattr(_lettering, "_joins", lambda: True)
    assert families_for("قط") == ["DejaVu Sans"]


def test_a_long_name_is_shortened() -> None:
    [shown], _ = class_names(["x" * 40])
    assert shown == "x" * 27 + "…"


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("labels", [("猫", "犬"), ("a$", "$b"), ("\U0003fffd", "z" * 70)])
def test_a_confusion_matrix_of_any_names_is_drawn_without_a_warning(
    labels: tuple[str, ...], suffix: str, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_confusion(_evaluated(labels, "猫$_$/test"), tmp_path / f"c.{suffix}")
    assert (tmp_path / f"c.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("bar", [False, True])
def test_a_title_is_whole_inside_its_figure(columns: int, bar: bool, tmp_path: Path) -> None:
    figure = new_figure(2.6 * columns, 2.6)
    cells = figure.subplots(1, columns, squeeze=False)[0]
    for axes in cells:
        drawn = axes.imshow(np.eye(2))
        axes.set_title("holiday photographs of the family/test: 76.39 %")
        if bar:
            figure.colorbar(drawn, ax=axes, label="share")
    save(figure, tmp_path / "f.png")
    boxes = [axes.title.get_window_extent() for axes in cells]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(left.overlaps(right) for left, right in itertools.pairwise(boxes))
    assert " ".join(cells[0].get_title().split("\n")).endswith("family/test: 76.39 %")


def test_epochs_are_whole_numbers() -> None:
    axes = new_figure(3, 3).subplots()
    axes.plot([1, 2, 3], [0.5, 0.4, 0.3])
    whole_numbers(axes.xaxis)
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_legend_stands_outside_of_all_axes(tmp_path: Path) -> None:
    figure = new_figure(6, 3)
    for axes in figure.subplots(1, 2):
        for name in ("convit_nano.digits", "resnet_nano.digits", "hdvw_vit_nano.digits"):
            axes.plot([0, 1], [0, 1], label=name)
    legend_above(figure)
    save(figure, tmp_path / "f.png")
    [legend] = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == [
        "convit_nano.digits", "resnet_nano.digits", "hdvw_vit_nano.digits",
    ]  # fmt: skip
    box = legend.get_window_extent()
    assert all(not box.overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert figure.bbox.contains(box.x0, box.y0)
    assert figure.bbox.contains(box.x1, box.y1)
