"""Weights that we train on scikit-learn's handwritten digits; they lie in the package."""

from ..records import WeightsRecord


def digits_weights(
    model: str,
    version: str,
    sha256: str,
    size_bytes: int,
    *,
    recipe: str = "",
    seed: int = 0,
) -> WeightsRecord:
    """`convattn train --reproduce MODEL` runs the recipe again, where one is named."""
    return WeightsRecord(
        model=model,
        tag="digits",
        version=version,
        bundled=f"{model}.digits-{version}.safetensors",
        sha256=sha256,
        size_bytes=size_bytes,
        architecture_versions=(1,),
        labels="digits",
        dataset="scikit-learn's handwritten digits, training part",
        licence="Apache-2.0",
        recipe=recipe,
        seed=seed,
    )
