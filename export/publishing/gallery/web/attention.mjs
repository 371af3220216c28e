// From attention weights to a map over the image: the reading of zoo.analysis.query_attention.
//
// A layer is { output, kind, grid: [rows, columns], prefix, step, tiles, shift, heads, gates }:
// "global" heads see every patch, "windows" their own window, "neighbours" offsets around the query.

/** Rows and columns of the whole map of a layer. */
export function extent(layer) {
  return [layer.grid[0] * layer.tiles[0], layer.grid[1] * layer.tiles[1]];
}

/**
 * One head's attention from a patch, over the whole map: NaN where the head cannot look.
 * weights: { data, dims } of one image, (1, nh, Q, K) or (1, windows, nh, Q, K).
 * query: [row, column] on the map. Returns { rows, columns, values }.
 */
export function headMap(layer, weights, head, query) {
  const [rows, columns] = extent(layer);
  const values = new Float32Array(rows * columns).fill(NaN);
  const write = { global: writeGlobal, windows: writeWindow, neighbours: writeNeighbours };
  write[layer.kind](layer, weights, head, query, values);
  return { rows, columns, values };
}

function rowOf({ data, dims }, window, head, query) {
  const [heads, queries, keys] = dims.slice(-3);
  const start = ((window * heads + head) * queries + query) * keys;
  return data.subarray(start, start + keys);
}

function writeGlobal(layer, weights, head, [row, column], values) {
  const queries = weights.dims.at(-2);
  let found = rowOf(weights, 0, head, layer.prefix + row * layer.grid[1] + column);
  if (found.length > queries) found = summed(found, queries); // keys of several heads per position
  found = found.subarray(layer.prefix);
  const total = layer.prefix ? found.reduce((a, b) => a + b, 0) : 1; // without class tokens
  const step = found.length === values.length ? 1 : layer.step;
  const [rows, columns] = extent(layer);
  const across = Math.ceil(columns / step);
  found.forEach((value, key) => {
    const [top, left] = [Math.floor(key / across) * step, (key % across) * step];
    for (let y = top; y < Math.min(top + step, rows); y++) {
      for (let x = left; x < Math.min(left + step, columns); x++) {
        values[y * columns + x] = value / total;
      }
    }
  });
}

function summed(keys, positions) {
  const found = new Float32Array(positions);
  keys.forEach((value, index) => (found[index % positions] += value));
  return found;
}

function writeWindow(layer, weights, head, [row, column], values) {
  const [rows, columns] = extent(layer);
  const [height, width] = layer.grid;
  const y = (row - layer.shift + rows) % rows;
  const x = (column - layer.shift + columns) % columns;
  const [down, right] = [Math.floor(y / height), Math.floor(x / width)];
  const inside = (y % height) * width + (x % width);
  rowOf(weights, down * layer.tiles[1] + right, head, inside).forEach((value, key) => {
    const keyRow = (down * height + Math.floor(key / width) + layer.shift) % rows;
    const keyColumn = (right * width + (key % width) + layer.shift) % columns;
    values[keyRow * columns + keyColumn] = value;
  });
}

function writeNeighbours(layer, weights, head, [row, column], values) {
  const [rows, columns] = extent(layer);
  const found = rowOf(weights, 0, head, row * columns + column);
  const side = Math.round(Math.sqrt(found.length));
  found.forEach((value, key) => {
    const y = row + (Math.floor(key / side) - (side >> 1)) * layer.step;
    const x = column + ((key % side) - (side >> 1)) * layer.step;
    if (y >= 0 && y < rows && x >= 0 && x < columns) values[y * columns + x] = value;
  });
}

/** Largest value and its [row, column]. */
export function peak({ columns, values }) {
  let best = -1;
  values.forEach((value, index) => {
    if (value > (best < 0 ? -1 : values[best])) best = index;
  });
  return { value: best < 0 ? 0 : values[best], place: [Math.floor(best / columns), best % columns] };
}
