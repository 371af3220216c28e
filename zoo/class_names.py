"""Whether the classes of a model are those of a data set, and in which order."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DatasetError

Array = np.ndarray[Any, Any]


def align_labels(
    model: tuple[str, ...], data: tuple[str, ...], name: str
) -> tuple[tuple[str, ...], Array]:
    """Class names in the order of the logits, and the map from the data's class numbers to theirs.

    Args:
        model: class names of the logits; empty if the model has none: then the data's order holds.
        data: class names of the data.
        name: of the data, for messages.
    Raises: DatasetError if there are more or fewer classes, or other names.
    """
    if not model or model == data:
        return data, np.arange(len(data))
    if len(model) != len(data):
        raise DatasetError(
            f"the model has {len(model)} classes ({_some(model)}), {name} has {len(data)} "
            f"({_some(data)}); evaluate it on the data it was trained for, or train a new head",
            code="class_count",
        )
    unknown = [label for label in data if label not in set(model)]
    if unknown or len(set(data)) < len(data):
        raise DatasetError(
            f"the classes of {name} are not the model's: it does not know "
            f"{_some(tuple(unknown) or data)}; its own are {_some(model)}. Rename the folders if "
            "they mean the same",
            code="class_names",
        )
    places = {label: place for place, label in enumerate(model)}
    return model, np.asarray([places[label] for label in data])


def _some(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:4]) + (", ..." if len(labels) > 4 else "")
