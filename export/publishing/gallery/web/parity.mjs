// How far an answer is from the float64 reference, and how far it may be: the rules of
// export/parity (docs/parity.md), with the limits that the page's facts carry.

/** The largest error that passes; int8 has none, since accuracy decides there. */
export function errorLimit(limits, precision, eager, largestLogit) {
  if (precision === "int8") return Infinity;
  if (precision === "float16") return limits.float16;
  const scale = Math.max(1, largestLogit);
  return Math.min(limits.eager_ratio * eager + limits.eager_slack * scale, limits.absolute * scale);
}

/**
 * One row per kind of input.
 * actual, expected: arrays of logits per image; eager: error of eager float32 per image.
 */
export function judge({ actual, expected, eager, kinds, precision, limits }) {
  return [...new Set(kinds)].map((kind) => {
    const chosen = kinds.flatMap((name, index) => (name === kind ? [index] : []));
    return judgeKind(kind, chosen, { actual, expected, eager, precision, limits });
  });
}

function judgeKind(kind, chosen, { actual, expected, eager, precision, limits }) {
  let worst = 0;
  let same = 0;
  let clear = 0;
  let clearSame = 0;
  let largest = 0;
  let finite = true;
  let relative = 0;
  for (const index of chosen) {
    const [a, e] = [actual[index], expected[index]];
    let error = 0;
    let [missed, whole] = [0, 0];
    for (let i = 0; i < e.length; i++) {
      missed += (a[i] - e[i]) ** 2;
      whole += e[i] ** 2;
      if (!Number.isFinite(a[i])) finite = false;
      error = Math.max(error, Math.abs(a[i] - e[i]));
      largest = Math.max(largest, Math.abs(e[i]));
    }
    const order = ranking(e);
    const equal = ranking(a)[0] === order[0];
    same += equal;
    if (e.length < 2 || e[order[0]] - e[order[1]] > error) {
      clear += 1;
      clearSame += equal;
    }
    worst = Math.max(worst, error);
    relative = Math.max(relative, missed ? Math.sqrt(missed / whole) : 0);
  }
  const ownError = Math.max(...chosen.map((index) => eager[index]));
  const limit = errorLimit(limits, precision, ownError, largest);
  const needed = { float32: 1, float16: limits.float16_top1, int8: 0 }[precision];
  const agreement = clear ? clearSame / clear : 1;
  const whole = precision !== "int8" || relative < limits.int8_relative_l2;
  const passed = finite && worst <= limit && agreement >= needed && whole;
  return { kind, images: chosen.length, worst: finite ? worst : Infinity, limit, same, passed };
}

/** The verdict of all rows, told by the row nearest to its limit. */
export function summarise(rows) {
  const nearest = rows.reduce((a, b) => (b.worst / b.limit > a.worst / a.limit ? b : a));
  return {
    images: rows.reduce((sum, row) => sum + row.images, 0),
    same: rows.reduce((sum, row) => sum + row.same, 0),
    worst: Math.max(...rows.map((row) => row.worst)),
    limit: Math.max(...rows.map((row) => row.limit)),
    nearest,
    passed: rows.every((row) => row.passed),
  };
}

/** Indices, largest value first. */
export function ranking(values) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
}

export function softmax(logits) {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp(value - top));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / total);
}
