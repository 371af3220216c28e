// ONNX TensorProto (onnx.proto3): as much of it as test vectors need, float and double in raw_data.

const FLOAT = 1;
const DOUBLE = 11;

/** The tensor in the bytes of a .pb file: { dims: [n, ...], data: Float32Array | Float64Array }. */
export function readTensor(bytes) {
  const dims = [];
  let kind = 0;
  let raw = null;
  for (const [field, value] of fields(bytes)) {
    if (field === 1 && typeof value === "number") dims.push(value);
    else if (field === 1) dims.push(...varints(value));
    else if (field === 2) kind = value;
    else if (field === 9) raw = value;
  }
  const Kind = { [FLOAT]: Float32Array, [DOUBLE]: Float64Array }[kind];
  if (!Kind || raw === null) throw new Error("a test vector is damaged");
  const data = new Kind(raw.slice().buffer); // a copy: typed arrays need aligned bytes
  if (data.length !== dims.reduce((a, b) => a * b, 1)) throw new Error("a test vector is cut short");
  return { dims, data };
}

function* fields(bytes) {
  const at = { place: 0 };
  while (at.place < bytes.length) {
    const tag = varint(bytes, at);
    const wire = tag & 7;
    if (wire === 0) {
      yield [tag >>> 3, varint(bytes, at)];
    } else if (wire === 2) {
      const length = varint(bytes, at);
      yield [tag >>> 3, bytes.subarray(at.place, at.place + length)];
      at.place += length;
    } else if (wire === 1 || wire === 5) {
      at.place += wire === 1 ? 8 : 4;
    } else {
      throw new Error("a test vector is damaged");
    }
  }
}

function varint(bytes, at) {
  let value = 0;
  let scale = 1;
  for (;;) {
    if (at.place >= bytes.length) throw new Error("a test vector is cut short");
    const byte = bytes[at.place++];
    value += (byte & 127) * scale;
    if (byte < 128) return value;
    scale *= 128;
  }
}

function varints(bytes) {
  const at = { place: 0 };
  const found = [];
  while (at.place < bytes.length) found.push(varint(bytes, at));
  return found;
}
