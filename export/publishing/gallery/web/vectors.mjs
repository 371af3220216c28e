// The test vectors of an export: ten inputs, what the model answers on them in float64, and how far
// eager float32 is from that.

import { judge } from "./parity.mjs";
import { readTensor } from "./tensors.mjs";

export async function readVectors(lab) {
  const { input, output, error, kinds } = lab.facts.vectors;
  const [x, y, eager] = await Promise.all(
    [input, output, error].map(async (file) => readTensor(await lab.fetch(file))),
  );
  const [images, classes] = y.dims;
  const expected = Array.from({ length: images }, (_, i) =>
    y.data.subarray(i * classes, (i + 1) * classes),
  );
  return { x, expected, eager: eager.data, kinds, images };
}

/** Runs a file on every vector, one image at a time. Returns { rows, ms }: median time of a run. */
export async function runVectors(lab, vectors, file, backend, onImage = () => {}) {
  const size = vectors.x.data.length / vectors.images;
  const dims = [1, ...vectors.x.dims.slice(1)];
  const actual = [];
  const times = [];
  for (let i = 0; i < vectors.images; i++) {
    const data = vectors.x.data.slice(i * size, (i + 1) * size);
    const { outputs, ms } = await lab.run(file, { data, dims }, backend);
    actual.push(outputs[lab.facts.output].data);
    times.push(ms);
    onImage(i + 1);
  }
  const { limits } = lab.facts;
  const rows = judge({ ...vectors, actual, precision: file.precision, limits });
  times.sort((a, b) => a - b);
  return { rows, ms: times[times.length >> 1] };
}
