"""Files beside the model's own graph: what they return and take, and in which file that stands.

`embeddings` leave the classifier out, `features` add maps of every resolution, `attention` adds the
matrices of every layer, `preprocessing` takes images, and `pixel_values` returns what it makes of
them. Joined by "+" they share one file.
"""

from __future__ import annotations

from itertools import combinations

from zoo.errors import ConfigError

EXTRAS = ("embeddings", "features", "attention", "preprocessing", "pixel_values")
_FILES = {
    f"onnx/model_{'_'.join(names)}.onnx": names
    for count in range(1, len(EXTRAS) + 1)
    for names in combinations(EXTRAS, count)
    if "pixel_values" not in names or "preprocessing" in names
}


def extra_file(extra: str) -> str:
    """The file of one of `EXTRAS`, or of several joined by "+", in whatever order.

    Raises: ConfigError for other names, or pixel_values without preprocessing.
    """
    names = extra.split("+")
    if not set(names) <= set(EXTRAS):
        raise ConfigError(f'extras are {", ".join(EXTRAS)}, alone or joined by "+"; got {extra!r}')
    wanted = tuple(name for name in EXTRAS if name in names)
    for file, held in _FILES.items():
        if held == wanted:
            return file
    raise ConfigError(
        "pixel_values are what preprocessing makes of images: ask for both in one file, as "
        f"'preprocessing+pixel_values'; got {extra!r}"
    )


def extras_in(file: str) -> tuple[str, ...]:
    """Which of `EXTRAS` a file of an export directory holds; () for the model's own graphs."""
    return _FILES.get(file, ())
