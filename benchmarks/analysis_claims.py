"""Sentences of docs/analyses, made from measured rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from . import training_claims
from .analysis_tables import of_layers
from .training_claims import mean, models_of, verdict, vit_below_resnet

Rows = list[dict[str, Any]]
Found = dict[str, Any]


def claims(verb: str, found: Found) -> list[str]:
    """What the numbers say, one sentence for each line."""
    return list(_CLAIMS[verb](found))


def _by_kind(key: str, neutral: float, what: str) -> Callable[[Found], Any]:
    def sentences(found: Found) -> Any:
        lowered: list[bool] = []
        for model, rows in models_of(found["rows"]).items():
            parts = []
            for kind in ("attention", "convolution", "mlp"):
                values = [r[key] for r in rows if r["kind"] == kind and r.get(key) is not None]
                falls = [value < neutral for value in values]
                lowered += falls if kind == "attention" else []
                if values:
                    parts.append(f"{sum(falls)} of {len(values)} {kind} units")
            yield f"`{model}`: {what} falls after {', '.join(parts)}."
        if lowered:
            yield verdict(f"attention lowers {what}", sum(lowered) / len(lowered))

    return sentences


def _lesion(found: Found) -> Any:
    for model, rows in models_of(found["rows"]).items():
        kept = [r for r in rows if r["drop_percent"] is not None]
        worst = max(kept, key=lambda r: r["drop_percent"])
        yield (
            f"`{model}`: the unit missed most is {worst['unit']} ({worst['drop_percent']:.1f} "
            f"points, {worst['low']:.1f} to {worst['high']:.1f})."
        )
        for kind in ("attention", "mlp", "convolution"):
            drops = [r["drop_percent"] for r in kept if r["kind"] == kind]
            if drops:
                yield f"`{model}`: mean drop over its {len(drops)} {kind} units {mean(drops):.1f}."


def _specificity(found: Found) -> Any:
    for model, rows in models_of(found["rows"]).items():
        heads = [r for r in rows if r["of"] == "attention" and r["image_share"] is not None]
        if heads:
            low, high = (f(r["image_share"] for r in heads) for f in (min, max))
            yield f"`{model}`: image share of its {len(heads)} heads {low:.2f} to {high:.2f}."
        maps = [r["image_share"] for r in rows if r["of"] == "response" and r["image_share"]]
        yield f"`{model}`: image share of feature maps {min(maps):.2f} to {max(maps):.2f}."


def _filters(found: Found) -> Any:
    for model, rows in models_of(found["rows"]).items():
        for kind in ("attention", "convolution"):
            gains = [r["gain"] for r in rows if r["kind"] == kind]
            if gains:
                count = sum(g < 0 for g in gains)
                yield (
                    f"{model}: {count} of {len(gains)} {kind} layers lower high frequencies, mean "
                    f"gain {mean(gains):.2f}."
                )
    shares = [r["gain"] < 0 for r in found["rows"] if r["kind"] == "attention"]
    yield verdict("attention is a low-pass filter", sum(shares) / len(shares))


def _nonlocality(found: Found) -> Any:
    keys = ("nonlocality", "uniform")
    for model, rows in models_of(of_layers(found["rows"], keys)).items():
        values = ", ".join(f"{r['nonlocality']:.2f}" for r in rows)
        yield f"`{model}`: {values} patches from the first to the last layer."
    rows = models_of(of_layers(found["rows"], keys)).get("convit_nano.digits", [])
    if rows:
        reach = [row["nonlocality"] for row in rows]
        yield verdict("ConViT attends farther the deeper the layer", float(reach == sorted(reach)))


def _gates(found: Found) -> Any:
    for model, rows in models_of(of_layers(found["rows"], ("gate", "reach"))).items():
        values = ", ".join(f"{r['gate']:.2f}" for r in rows)
        yield f"`{model}`: mean gates {values}; every gate starts at sigmoid(1) = 0.73."
    moved = [row["gate"] < 0.5 for row in of_layers(found["rows"], ("gate",))]
    yield verdict("gates of upper layers fall towards 0", sum(moved) / len(moved))


def _attention(found: Found) -> Any:
    for model, rows in models_of(of_layers(found["rows"], ("largest",))).items():
        values = ", ".join(f"{r['largest']:.2f}" for r in rows)
        yield f"`{model}`: largest weight of a key, mean over heads, layer by layer {values}."


def _similarity(found: Found) -> Any:
    keys = ("query_similarity", "head_similarity", "entropy", "top_share")
    for model, rows in models_of(of_layers(found["rows"], keys)).items():
        kept = [r for r in rows if "query_similarity" in r]
        if kept:
            values = ", ".join(f"{r['query_similarity']:.2f}" for r in kept)
            yield (
                f"`{model}`: cosine between queries, first to last layer {values}; entropy of the "
                f"last {kept[-1]['entropy']:.2f}."
            )
        else:
            yield f"`{model}`: cosine between groups of the last context " + (
                f"{rows[-1]['head_similarity']:.2f}."
            )
    rising = [
        rows[-1]["query_similarity"] > rows[0]["query_similarity"]
        for rows in models_of(of_layers(found["rows"], keys)).values()
        if "query_similarity" in rows[0]
    ]
    yield verdict("attention depends less on the query in deeper layers", mean(rising))


def _landscape(found: Found) -> Any:
    for model, rows in models_of(found["rows"]).items():
        [centre] = [r for r in rows if r["x"] == 0 and r["y"] == 0]
        corners = [r["nll"] for r in rows if r["x"] and r["y"] and r["nll"] is not None]
        decay = next(s["weight_decay"] for s in found["summary"] if s["model"] == model)
        yield (
            f"`{model}`: NLL {centre['nll']:.3f} at the trained weights, {mean(corners):.2f} at "
            f"the corners; L2 there {decay * centre['half_squares']:.1f} ((wd/2) sum of squares), "
            f"or {decay * centre['l2']:.1f} (wd times the sum of norms)."
        )
    rough = {
        model: mean(r["nll"] for r in rows if r["x"] and r["y"] and r["nll"] is not None)
        for model, rows in models_of(found["rows"]).items()
    }
    yield from vit_below_resnet(rough, "attention flattens the loss landscape")


def _hessian(found: Found) -> Any:
    for model, rows in models_of(found["rows"]).items():
        values = [r["eigenvalue"] for r in rows]
        negative = 100 * sum(v < 0 for v in values) / len(values)
        yield (
            f"`{model}`: {len(values)} eigenvalues, {negative:.0f} % negative, mean of the "
            f"positive ones {mean(v for v in values if v > 0):.1f}, largest {max(values):.1f}."
        )
    values = {m: [r["eigenvalue"] for r in rows] for m, rows in models_of(found["rows"]).items()}
    positive = {model: mean(v for v in own if v > 0) for model, own in values.items()}
    yield from vit_below_resnet(positive, "a ViT's largest eigenvalues are smaller than a ResNet's")
    smallest = {model: min(0.0, *own) for model, own in values.items()}
    yield from vit_below_resnet(
        smallest, "negative values are among the largest of a ViT's Hessian and not of a ResNet's"
    )
    masses = ((e["model"], e.get("negative_mass")) for e in found["summary"])
    parts = ", ".join(f"`{model}` {100 * mass:.1f} %" for model, mass in masses if mass is not None)
    if parts:
        yield f"Share of the whole spectrum of one mini-batch below 0: {parts}."


def _robustness(found: Found) -> Any:
    for summary in found["summary"]:
        yield f"`{summary['model']}`: mean of 75 sets {summary['mean_percent']:.1f} %."


def _noise(found: Found) -> Any:
    for model, rows in models_of(found["rows"]).items():
        drops = {r["frequency_pi"]: r["drop_percent"] for r in rows if r["test"] == "noise"}
        worst = max(drops, key=lambda f: drops[f])
        low = mean(d for f, d in drops.items() if f < 0.5)
        high = mean(d for f, d in drops.items() if f > 0.5)
        yield (
            f"`{model}`: mean drop {low:.1f} points below 0.5π, {high:.1f} above; most at "
            f"{worst:g}π ({drops[worst]:.1f})."
        )
    high_drops = {
        model: mean(
            r["drop_percent"] for r in rows if r["test"] == "noise" and r["frequency_pi"] > 0.5
        )
        for model, rows in models_of(found["rows"]).items()
    }
    yield from vit_below_resnet(high_drops, "high-frequency noise hurts a ViT less than a ResNet")


def _buildup(found: Found) -> Any:
    rows = found["rows"]
    best = max(rows, key=lambda r: r["test_percent"])
    first = rows[0]
    yield (
        f"baseline `{first['plan']}`: test {first['test_percent']:.1f} %, under noise "
        f"{first['noise_percent']:.1f} %; best plan by test accuracy `{best['plan']}`: "
        f"{best['test_percent']:.1f} %, under noise {best['noise_percent']:.1f} %."
    )
    if best["test_percent"] < 80:
        yield "these trainings were too short to compare plans; only the procedure is shown."
    pairs = itertools.pairwise(rows)
    down = sum(b["high_frequency"] < a["high_frequency"] for a, b in pairs)
    yield (f"high frequencies of the last unit fall with {down} of {len(rows) - 1} replacements.")


_CLAIMS: dict[str, Callable[[Found], Any]] = {
    "fourier": _by_kind("change", 0.0, "the highest frequency"),
    "variance": _by_kind("ratio", 1.0, "the variance"),
    "lesion": _lesion,
    "specificity": _specificity,
    "filters": _filters,
    "nonlocality": _nonlocality,
    "gates": _gates,
    "attention": _attention,
    "similarity": _similarity,
    "landscape": _landscape,
    "hessian": _hessian,
    "robustness": _robustness,
    "noise": _noise,
    "buildup": _buildup,
    "kernel-size-hessian": _hessian,
    **training_claims.CLAIMS,
}
