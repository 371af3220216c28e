"""What keeps a goal from being reached, in words; shown only where a measurement misses it."""

from __future__ import annotations

from typing import Any

LIMITS = {
    "convit-224-b8": "five sixths of the multiplications at 224 px are linear layers, the same in "
    "both; the attention alone is faster by more, as the rows of the layer show",
    "core-k3": "half of the time is the fused attention over bands, which multiplies 48 keys where "
    "9 count; the rest copies keys and values into bands. The peer ran faster here than where the "
    "goal was set (2.45 ms)",
    "core-k7": "the goal was set against a peer of 22 ms; here the same operations take a third of "
    "that, while ours is faster than the prototype of 0.9 ms",
    "core-k7-train-memory": "queries, keys, values and output in the fused kernel's order, and "
    "their gradients, are what remains; nothing of the size of the unfolded windows is kept",
    "ort-conv-attention-k3": "attention that cost nothing would not reach it: a plain ViT of this "
    "width takes more than a third of the peer's time. The goal was set against a slower graph "
    "(144 ms, twice this peer's)",
    "ort-conv-attention-k7": "the same: the plain ViT's time allows a ratio of about 14; the goal "
    "was set against a graph of 757 ms",
    "sgemm-share": "the peak is that of 2048 x 2048 matrices, which this machine multiplies almost "
    "twice as fast as the one on which the goal was set; products of 197 x 192 gain less",
    "load-convit-base": "reading the file into memory, so that the bytes that were hashed are "
    "those that are used, and giving each tensor memory of its own",
}


def explained(rows: list[dict[str, Any]]) -> str:
    """One line for each goal that was missed."""
    missed = [row for row in rows if row["met"] is False]
    if not missed:
        return "None is missed."
    return "\n".join(
        f"- {row['subject']}, against {row['peer']} ({row['goal']}): "
        f"{LIMITS.get(row['id'], 'not explained yet')}."
        for row in missed
    )
