"""Slow, obvious twins of the attention layers, written from the equations with explicit loops.

Sources: ConViT, arXiv:2103.10697, equations 5-9 (GPSA); *Convolutional Self-Attention Networks*,
arXiv:1904.03107, and its image form in arXiv:2202.06709 (2-D convolutional attention). Nothing here
is shared with the fast layers, apart from the names of the weights. Use float64; gradients flow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


def softmax(logits: list[Tensor]) -> list[Tensor]:
    """exp(l_i) / sum_j exp(l_j) of a list of scalars."""
    largest = max(float(logit.detach()) for logit in logits)
    powers = [torch.exp(logit - largest) for logit in logits]
    total = sum(powers[1:], powers[0])
    return [power / total for power in powers]


def linear(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    """y_o = sum_i w_oi x_i + b_o, for x (..., in)."""
    y = torch.einsum("...i,oi->...o", x, state[f"{name}.weight"])
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def position_weights(
    state: Mapping[str, Tensor], grid: tuple[int, int], unit: tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    """softmax over *all* keys of w . r + b, r = (dx, dy, dx^2 + dy^2), query to key: (nh, N, N).

    `unit` is the (vertical, horizontal) length of one patch.
    """
    height, width = grid
    weight, bias = state["pos_proj.weight"], state["pos_proj.bias"]
    places = [(y, x) for y in range(height) for x in range(width)]
    heads = []
    for head in range(weight.shape[0]):
        rows = []
        for y, x in places:
            logits = []
            for key_y, key_x in places:
                dy, dx = (key_y - y) * unit[0], (key_x - x) * unit[1]
                w0, w1, w2 = weight[head]
                logits.append(w0 * dx + w1 * dy + w2 * (dx**2 + dy**2) + bias[head])
            rows.append(torch.stack(softmax(logits)))
        heads.append(torch.stack(rows))
    return torch.stack(heads)


def content_weights(x: Tensor, qk: Tensor, num_heads: int, scale: float) -> Tensor:
    """softmax_j(q_i . k_j * scale) per head: (B, N, 2C) queries and keys -> (B, nh, N, N)."""
    batch, tokens, dim = x.shape
    width = dim // num_heads
    attention = []
    for b in range(batch):
        for head in range(num_heads):
            query = qk[b, :, head * width : (head + 1) * width]
            key = qk[b, :, dim + head * width : dim + (head + 1) * width]
            for i in range(tokens):
                logits = [(query[i] * key[j]).sum() * scale for j in range(tokens)]
                attention.append(torch.stack(softmax(logits)))
    return torch.stack(attention).reshape(batch, num_heads, tokens, tokens)


def gpsa(
    x: Tensor,
    grid: tuple[int, int],
    state: Mapping[str, Tensor],
    num_heads: int,
    scale: float | None = None,
    unit: tuple[float, float] = (1.0, 1.0),
) -> tuple[Tensor, Tensor]:
    """Gated positional self-attention: output (B, N, C) and attention (B, nh, N, N)."""
    batch, tokens, dim = x.shape
    width = dim // num_heads
    content = content_weights(x, linear(x, state, "qk"), num_heads, scale or 1 / math.sqrt(width))
    position = position_weights(state, grid, unit)
    values = linear(x, state, "v")
    maps, outputs = [], []
    for b in range(batch):
        for head in range(num_heads):
            gate = 1 / (1 + torch.exp(-state["gating_param"][head]))
            blend = (1 - gate) * content[b, head] + gate * position[head]
            blend = blend / blend.sum(1, keepdim=True)  # the paper's renormalisation
            maps.append(blend)
            outputs.append(blend @ values[b, :, head * width : (head + 1) * width])
    attention = torch.stack(maps).reshape(batch, num_heads, tokens, tokens)
    heads = torch.stack(outputs).reshape(batch, num_heads, tokens, width)
    joined = torch.cat([heads[:, head] for head in range(num_heads)], dim=-1)
    return linear(joined, state, "proj"), attention


def patches_linear(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A convolution whose kernel is its stride, without bias: one dot product per place."""
    height, width = x.shape[2] // stride, x.shape[3] // stride
    rows = [
        torch.stack(
            [
                torch.einsum(
                    "bcij,ocij->bo",
                    x[:, :, y * stride : (y + 1) * stride, z * stride : (z + 1) * stride],
                    weight,
                )
                for z in range(width)
            ],
            dim=-1,
        )
        for y in range(height)
    ]
    return torch.stack(rows, dim=-2)  # (B, O, height, width)


def conv_attention(
    x: Tensor,
    state: Mapping[str, Tensor],
    num_heads: int,
    head_dim: int,
    kernel_size: int = 3,
    dilation: int = 1,
    padding: int | None = None,
    kv_stride: int = 1,
    mask: Tensor | None = None,
    mask_border: bool = False,
) -> tuple[Tensor, Tensor]:
    """2-D convolutional self-attention: output (B, C', H, W) and attention (B, nh, H * W, k * k).

    Places outside the key map take part with logit 0 and value 0; with `mask_border` they do not.
    """
    batch, _, height, width = x.shape
    if padding is None:
        padding = dilation * (kernel_size - 1) // 2
    queries = patches_linear(x, state["to_q.weight"], 1)
    keys, values = patches_linear(x, state["to_kv.weight"], kv_stride).chunk(2, dim=1)
    growth = 2 * padding - dilation * (kernel_size - 1)  # of the windowed key map
    shared = (keys.shape[2] + growth, keys.shape[3] + growth) == (1, 1)
    if mask is not None:
        mask = mask.broadcast_to(batch, num_heads, height * width, kernel_size**2)
    offsets = [(i, j) for i in range(kernel_size) for j in range(kernel_size)]
    outputs, maps = [], []
    for b in range(batch):
        for head in range(num_heads):
            channels = slice(head * head_dim, (head + 1) * head_dim)
            for y in range(height):
                for z in range(width):
                    logits, seen = [], []
                    for n, (i, j) in enumerate(offsets):
                        key_y = (0 if shared else y) + i * dilation - padding
                        key_z = (0 if shared else z) + j * dilation - padding
                        logit, value = x.new_zeros(()), x.new_zeros(head_dim)
                        if 0 <= key_y < keys.shape[2] and 0 <= key_z < keys.shape[3]:
                            key = keys[b, channels, key_y, key_z]
                            logit = (queries[b, channels, y, z] * key).sum() / math.sqrt(head_dim)
                            value = values[b, channels, key_y, key_z]
                        elif mask_border:
                            logit = x.new_full((), -math.inf)
                        if mask is not None:
                            logit = logit + mask[b, head, y * width + z, n]
                        logits.append(logit)
                        seen.append(value)
                    attention = softmax(logits)
                    maps.append(torch.stack(attention))
                    outputs.append(sum(a * v for a, v in zip(attention, seen, strict=True)))
    shape = (batch, num_heads, height, width)
    heads = torch.stack(outputs).reshape(*shape, head_dim)
    joined = torch.cat([heads[:, head] for head in range(num_heads)], dim=-1)  # (B, H, W, inner)
    weight, bias = state["to_out.0.weight"][:, :, 0, 0], state["to_out.0.bias"]
    out = torch.einsum("byzi,oi->boyz", joined, weight) + bias[:, None, None]
    return out, torch.stack(maps).reshape(batch, num_heads, height * width, kernel_size**2)


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters of a fast layer by name, so that gradients reach them through its twin too."""
    return dict(module.named_parameters())


def gradients(out: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of `out` in a fixed random direction; zeros where an input plays no part."""
    generator = torch.Generator().manual_seed(2)
    direction = torch.randn(out.shape, dtype=torch.float64, generator=generator).to(out.dtype)
    return list(torch.autograd.grad((out * direction).sum(), inputs, materialize_grads=True))


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Assert the largest error, relative to the largest expected value (at least 1)."""
    assert actual.shape == expected.shape
    scale = max(1.0, float(expected.detach().abs().max()))
    error = float((actual.double() - expected).detach().abs().max())
    assert error <= tolerance * scale, f"error {error:.2e}, allowed {tolerance * scale:.2e}"


def on_one_thread() -> Iterator[None]:
    """For a fixture: on a busy machine tiny tensors lose everything to waiting threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
