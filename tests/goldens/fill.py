"""Deterministic parameters and inputs for the golden cases.

Only numpy is needed.  All numbers come from the raw 64-bit stream of
``numpy.random.PCG64`` (a stream numpy promises to keep stable) and from exact
integer and correctly rounded IEEE arithmetic, so every value is the same on
every platform.  Every floating value is rounded to float32 at the end: a
float32 model and a float64 model filled from the same spec therefore hold the
same numbers.

A *spec* describes a state dict, in order.  It is a list of rows
``[key, shape, dtype, rule]``.  ``rule`` says how the tensor is made:

===============  ============================================================
``linear``       ``gain * g / sqrt(fan_in)``, fan_in = product of shape[1:]
``linear_io``    the same for (in, out) matrices, fan_in = shape[0]
``norm``         ``1 + 0.1 g``        (weights of normalisation layers)
``bias``         ``0.05 g``
``mean``         ``0.1 g``            (BatchNorm running_mean)
``var``          uniform in [0.5, 1.5) (BatchNorm running_var)
``count``        0                    (BatchNorm num_batches_tracked)
``pos``          ``0.2 g``            (position embeddings, class tokens)
``gate``         ``g``                (GPSA gating_param)
``gpsa_pos``     columns 0 and 1: ``0.3 g``; column 2: ``-0.05 (1 + 0.2 g)``
``layer_scale``  ``0.5 + 0.1 g``
``vector``       ``0.3 g``            (any other 1-d parameter)
``keep``         not filled: the value the constructor gives is used
===============  ============================================================

``g`` is a bell-shaped variate of mean 0 and variance 1, the centred sum of
four 16-bit integers, bounded by about 3.46 in absolute value.
"""

import hashlib
import json
import math

import numpy as np

__all__ = [
    "fill_state_dict",
    "fill_tensor",
    "load_spec",
    "make_dropout_mask",
    "make_input",
    "make_labels",
    "relative_error",
    "spec_sha256",
    "subsample",
]

_CENTRE = 2 * 65535.0  # mean of the sum of four uint16
_SPREAD = math.sqrt((65536.0**2 - 1) / 3)  # its standard deviation
_CHUNK = 1 << 20


def _bit_generator(label):
    """PCG64 seeded by the first 8 bytes of sha256(label), little-endian."""
    digest = hashlib.sha256(label.encode("utf-8")).digest()
    return np.random.PCG64(int.from_bytes(digest[:8], "little"))


def _bell(label, size):
    """``size`` bell-shaped float64 variates (mean 0, variance 1)."""
    bits, out = _bit_generator(label), np.empty(size, dtype=np.float64)
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        raw = bits.random_raw(stop - start)
        total = np.zeros(stop - start, dtype=np.int64)
        for shift in (0, 16, 32, 48):
            total += ((raw >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
        out[start:stop] = (total - _CENTRE) / _SPREAD
    return out


def _uniform(label, size):
    """``size`` uniform float64 variates in [0, 1)."""
    raw = _bit_generator(label).random_raw(size)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def fill_tensor(key, shape, dtype, rule, seed, gain=1.0):
    """Make one tensor of a state dict.

    Arguments are one row of a spec, the seed of the case, and ``gain``, the
    factor applied by the ``linear`` rules.  Returns a numpy array of
    ``dtype``, or None for the rule ``keep``.
    """
    shape = tuple(int(s) for s in shape)
    size = int(np.prod(shape, dtype=np.int64))
    label = "%s/%s" % (seed, key)
    if rule == "keep":
        return None
    if rule == "count":
        return np.zeros(shape, dtype=dtype)
    if rule == "var":
        values = 0.5 + _uniform(label, size)
    else:
        g = _bell(label, size)
        if rule == "linear":
            fan_in = int(np.prod(shape[1:], dtype=np.int64))
            values = g * (gain / math.sqrt(fan_in))
        elif rule == "linear_io":
            values = g * (gain / math.sqrt(shape[0]))
        elif rule == "norm":
            values = 1.0 + 0.1 * g
        elif rule == "bias":
            values = 0.05 * g
        elif rule == "mean":
            values = 0.1 * g
        elif rule == "pos":
            values = 0.2 * g
        elif rule == "gate":
            values = g
        elif rule == "layer_scale":
            values = 0.5 + 0.1 * g
        elif rule == "vector":
            values = 0.3 * g
        elif rule == "gpsa_pos":
            g = g.reshape(shape)
            values = 0.3 * g
            values[:, 2] = -0.05 * (1.0 + 0.2 * g[:, 2])
        else:
            raise ValueError("unknown rule %r for %s" % (rule, key))
    return values.reshape(shape).astype(np.float32).astype(dtype)


def fill_state_dict(spec, seed, gain=1.0):
    """Make a whole state dict.

    ``spec`` is a list of ``[key, shape, dtype, rule]`` rows (see
    :func:`load_spec`).  Returns a dict, in the order of the spec, from key to
    numpy array.  Keys with the rule ``keep`` are left out.  Convert with
    ``{k: torch.from_numpy(v) for k, v in fill_state_dict(...).items()}``; for
    a float64 model, load first and call ``model.double()`` afterwards.
    """
    filled = {}
    for key, shape, dtype, rule in spec:
        value = fill_tensor(key, shape, dtype, rule, seed, gain)
        if value is not None:
            filled[key] = value
    return filled


def load_spec(path):
    """Read a spec file: a JSON list of ``[key, shape, dtype, rule]`` rows."""
    with open(path, "r", encoding="utf-8") as handle:
        return json.load(handle)


def spec_sha256(spec):
    """Fingerprint of names, shapes and dtypes of a state dict, in order.

    The sha256 of lines ``key<space>[d0,d1,...]<space>dtype`` joined by
    newlines.  ``spec`` rows may be of length 3 or 4 (the rule is ignored).
    """
    lines = ["%s [%s] %s" % (row[0], ",".join(str(int(s)) for s in row[1]), row[2]) for row in spec]
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()


def make_input(shape, seed, scale=1.0, name="x"):
    """Bell-shaped float32 input of the given shape (mean 0, deviation ``scale``)."""
    shape = tuple(int(s) for s in shape)
    size = int(np.prod(shape, dtype=np.int64))
    values = scale * _bell("%s/input/%s" % (seed, name), size)
    return values.reshape(shape).astype(np.float32)


def make_labels(n, num_classes, seed, name="y"):
    """``n`` integer labels in [0, num_classes), int64."""
    u = _uniform("%s/labels/%s" % (seed, name), int(n))
    return np.minimum((u * num_classes).astype(np.int64), num_classes - 1)


def make_dropout_mask(shape, p, seed, index):
    """Float32 dropout mask for the ``index``-th dropout call of a forward pass.

    Entries are 0 with probability ``p`` and ``1 / (1 - p)`` otherwise.
    """
    shape = tuple(int(s) for s in shape)
    size = int(np.prod(shape, dtype=np.int64))
    kept = _uniform("%s/dropout/%d" % (seed, index), size) >= p
    return (kept.astype(np.float64) / (1.0 - p)).reshape(shape).astype(np.float32)


def subsample(array, n=1024):
    """At most ``n`` evenly spaced entries of the flattened array (all, if fewer)."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size <= n:
        return flat
    return flat[(np.arange(n, dtype=np.int64) * flat.size) // n]


def relative_error(actual, expected):
    """max |actual - expected| / max |expected| (0 for two empty arrays).

    Positions where both are the same infinity or both NaN count as equal;
    a NaN or infinity on one side only gives infinity.
    """
    actual = np.asarray(actual, dtype=np.float64)
    expected = np.asarray(expected, dtype=np.float64)
    if actual.shape != expected.shape:
        return math.inf
    if expected.size == 0:
        return 0.0
    special = ~(np.isfinite(actual) & np.isfinite(expected))
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    if np.any(special & ~same):
        return math.inf
    a = np.where(special, 0.0, actual)
    e = np.where(special, 0.0, expected)
    scale = np.max(np.abs(e))
    return float(np.max(np.abs(a - e)) / (scale if scale > 0 else 1.0))
