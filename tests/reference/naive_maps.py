"""Slow twins of the layers on maps, written from the equations with explicit loops.

Sources: *How Do Vision Transformers Work?*, arXiv:2202.06709 (attention on maps and in windows, as
its code has them), and *A Close Look at Spatial Modeling*, arXiv:2212.12552 (global context).
Nothing here is shared with the fast layers, apart from the names of the weights. Use float64;
gradients flow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .naive import linear, patches_linear, softmax


def project(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    """y[o] = sum_c w[o, c] x[c] + b[o] at every pixel."""
    y = torch.einsum("bcyx,oc->boyx", x, state[f"{name}.weight"][:, :, 0, 0])
    return y + state[f"{name}.bias"][:, None, None] if f"{name}.bias" in state else y


def attention_2d(
    x: Tensor,
    state: Mapping[str, Tensor],
    num_heads: int,
    head_dim: int,
    kv_stride: int = 1,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention over a map: output (B, C', H, W) and attention (B, nh, H * W, keys)."""
    batch, _, height, width = x.shape
    queries = project(x, state, "to_q")
    pairs = patches_linear(x, state["to_kv.weight"], kv_stride)
    keys, values = pairs.chunk(2, dim=1)
    places = [(y, z) for y in range(keys.shape[2]) for z in range(keys.shape[3])]
    if mask is not None:
        mask = mask.broadcast_to(batch, num_heads, height * width, len(places))
    maps, outputs = [], []
    for b in range(batch):
        for head in range(num_heads):
            channels = slice(head * head_dim, (head + 1) * head_dim)
            for n, (y, z) in enumerate((y, z) for y in range(height) for z in range(width)):
                logits = []
                for m, (key_y, key_z) in enumerate(places):
                    products = queries[b, channels, y, z] * keys[b, channels, key_y, key_z]
                    bias = 0.0 if mask is None else mask[b, head, n, m]
                    logits.append(products.sum() / math.sqrt(head_dim) + bias)
                weights = softmax(logits)
                maps.append(torch.stack(weights))
                seen = [values[b, channels, y, z] for y, z in places]
                outputs.append(sum(w * v for w, v in zip(weights, seen, strict=True)))
    attention = torch.stack(maps).reshape(batch, num_heads, height * width, len(places))
    heads = torch.stack(outputs).reshape(batch, num_heads, height, width, head_dim)
    joined = heads.permute(0, 1, 4, 2, 3).reshape(batch, -1, height, width)
    return project(joined, state, "to_out.0"), attention


def window_of(place: tuple[int, int], window: int) -> tuple[int, int]:
    """Row and column of the window that a pixel lies in."""
    return place[0] // window, place[1] // window


def local_attention(
    x: Tensor,
    state: Mapping[str, Tensor],
    num_heads: int,
    head_dim: int,
    window: int,
    mask: Tensor | None = None,
) -> tuple[Tensor, dict[tuple[int, ...], Tensor]]:
    """Every pixel attends to the pixels of the image in its own window.

    Output (B, C', H, W), and weights by (image, head, query y, query x, key y, key x).
    """
    batch, _, height, width = x.shape
    queries = project(x, state, "attn.to_q")
    keys, values = project(x, state, "attn.to_kv").chunk(2, dim=1)
    places = [(y, z) for y in range(height) for z in range(width)]
    weights, outputs = {}, []
    for b in range(batch):
        for head in range(num_heads):
            channels = slice(head * head_dim, (head + 1) * head_dim)
            for y, z in places:
                near = [p for p in places if window_of(p, window) == window_of((y, z), window)]
                logits = []
                for key_y, key_z in near:
                    products = queries[b, channels, y, z] * keys[b, channels, key_y, key_z]
                    dy, dz = key_y - y + window - 1, key_z - z + window - 1
                    logit = products.sum() / math.sqrt(head_dim) + state["pos_embedding"][dy, dz]
                    if mask is not None:
                        query = (y % window) * window + z % window
                        logit = logit + mask[query, (key_y % window) * window + key_z % window]
                    logits.append(logit)
                shares = softmax(logits)
                for (key_y, key_z), share in zip(near, shares, strict=True):
                    weights[b, head, y, z, key_y, key_z] = share
                seen = [values[b, channels, key_y, key_z] for key_y, key_z in near]
                outputs.append(sum(s * v for s, v in zip(shares, seen, strict=True)))
    heads = torch.stack(outputs).reshape(batch, num_heads, height, width, head_dim)
    joined = heads.permute(0, 1, 4, 2, 3).reshape(batch, -1, height, width)
    return project(joined, state, "attn.to_out.0"), weights


def similarity(x: Tensor, groups: int) -> Tensor:
    """Standardised similarity of every token to the average token: (B, G, H, W)."""
    batch, dim, height, width = x.shape
    size = dim // groups
    samples = []
    for b in range(batch):
        average = [sum(x[b, c].flatten()) / (height * width) for c in range(dim)]
        scores = []
        for group in range(groups):
            for y in range(height):
                for z in range(width):
                    channels = range(group * size, (group + 1) * size)
                    scores.append(sum(x[b, c, y, z] * average[c] for c in channels))
        scores = [score / math.sqrt(size) for score in scores]
        mean = sum(scores) / len(scores)
        variance = sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)
        scores = [(score - mean) / (torch.sqrt(variance) + 1e-5) for score in scores]
        samples.append(torch.stack(scores).reshape(groups, height, width))
    return torch.stack(samples)


def global_context(
    x: Tensor, state: Mapping[str, Tensor], groups: int, compete: bool, weighted: bool
) -> Tensor:
    """The context of the average token, weighted by similarity: (B, C, H, W) or (B, C, 1, 1)."""
    average = torch.stack([torch.stack([channel.mean() for channel in image]) for image in x])
    if compete:
        hidden = linear(average, state, "fc1")
        half = hidden.shape[1] // 2
        pairs = [[max(row[i], row[half + i]) for i in range(half)] for row in hidden]
        context = linear(torch.stack([torch.stack(row) for row in pairs]), state, "fc2")
    else:
        hidden = linear(average, state, "fc.0")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))  # GELU
        context = linear(hidden, state, "fc.2")
    if not weighted:
        return context[:, :, None, None]
    scores = similarity(x, groups)
    size = x.shape[1] // groups
    out = []
    for b in range(x.shape[0]):
        for channel in range(x.shape[1]):
            group = channel // size
            score = scores[b, group] * state["rescale_weight"][group] + state["rescale_bias"][group]
            out.append(score * context[b, channel])
    return torch.stack(out).reshape(x.shape)
