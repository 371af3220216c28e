"""The generated parts of docs/performance.md and docs/scale.md on many images, from
bench-batch.json.
"""

from __future__ import annotations

from typing import Any

from . import tables

_ABSENT = (
    "Not measured yet: `make bench-batch` writes model_cards/measured/bench-batch.json, and `make "
    "docs` shows it here."
)
_BILLION = 10**9


def speed() -> str:
    """Every ratio with its goal, the rates behind it, and what limits it."""
    found = _read()
    if found is None:
        return _ABSENT
    lines = [
        (
            row["subject"],
            row["against"],
            "" if row["goal"] is None else f"{row['goal']:.2f}",
            f"{row['value']:.2f}",
            "{:.2f} to {:.2f}".format(*row["interval95"]),
            _mark(row),
        )
        for row in found["rows"]
    ]
    header = ("images", "the stream, by", "goal", "measured", "95 % interval", "")
    rates = [_rates(row) for row in found["rows"] if "timm" not in row["against"]]
    return "\n\n".join(
        [
            tables.markdown(header, lines),
            f"{found['threads']} threads, median of {found['rounds']} rounds, by "
            f"`{found['command']}`. In images/s: {'; '.join(dict.fromkeys(rates))}.",
            "The limit: decoding and computing share the cores, and each half alone has all of "
            "them. A stream that adds nothing of its own reaches the rate whose time for an image "
            "is the sum of both: " + "; ".join(dict.fromkeys(map(_bound, found["rows"]))) + ". "
            "Where a GPU computes, the slower half alone is the limit.",
        ]
    )


def cost() -> str:
    """Images per second of a core, and what a billion cost."""
    found = _read()
    if found is None:
        return _ABSENT
    rows: dict[str, dict[str, Any]] = {row["subject"]: row for row in found["rows"]}
    lines = []
    for subject, row in rows.items():
        rates = row["images_per_second"]
        stream, decoder = (rates[name] / found["threads"] for name in ("stream", "decoder"))
        hours, decoding = (_BILLION / rate / 3600 for rate in (stream, decoder))
        lines.append(
            (subject, f"{stream:.0f}", f"{hours:,.0f}", f"{decoder:.0f}", f"{decoding:,.0f}")
        )
    header = (
        "images", "whole stream, images per core second", "a billion, core hours",
        "decoding alone, images per core second", "a billion, core hours",
    )  # fmt: skip
    return "\n\n".join(
        [
            tables.markdown(header, lines),
            f"From model_cards/measured/bench-batch.json ({found['machine']['cpu']}, "
            f"{found['threads']} threads). Core hours by what a core hour costs you are the price. "
            "On a GPU: not measured. There decoding sets the number of CPUs: the GPU's images/s "
            "(`convattn bench model FILE --provider cuda` says them) by the last but one column.",
        ]
    )


def _read() -> dict[str, Any] | None:
    present = (tables.MEASURED / "bench-batch.json").is_file()
    return tables.read("batch") if present else None


def _mark(row: dict[str, Any]) -> str:
    if row["goal"] is None:
        return ""
    return "met" if row["value"] >= row["goal"] else "MISSED"


def _rates(row: dict[str, Any]) -> str:
    rates = row["images_per_second"]
    return f"{row['subject']}: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())


def _bound(row: dict[str, Any]) -> str:
    rates = row["images_per_second"]
    both = 1 / (1 / rates["session"] + 1 / rates["decoder"])
    share = both / min(rates["session"], rates["decoder"])
    return f"{row['subject']}: {both:.0f} images/s, {share:.2f} of the slower half"
