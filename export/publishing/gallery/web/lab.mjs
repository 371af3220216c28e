// One model in this browser: its files, opened once each, and what they answer.

import { download } from "./download.mjs";
import { Engine } from "./engine.mjs";

export class Lab {
  /** facts: model.json; base: URL of its folder; onBytes(n): n more bytes have come. */
  constructor(facts, base, onBytes = () => {}) {
    this.facts = facts;
    this.base = base;
    this.onBytes = onBytes;
    this.engines = new Map();
    this.opened = new Map();
  }

  /** The runtime of a backend, started at its first use. */
  engine(backend) {
    if (!this.engines.has(backend)) {
      this.engines.set(backend, new Engine(backend, this.onBytes));
    }
    return this.engines.get(backend);
  }

  /** A file of the model's folder, compared with its digest. */
  fetch({ file, sha256 }) {
    const url = new URL(file, this.base).href;
    return download(url, { onBytes: this.onBytes, digest: sha256 });
  }

  /** Opens a file; further calls wait for the same session. */
  open(file, backend = "wasm") {
    const name = `${backend} ${file.file}`;
    if (!this.opened.has(name)) {
      const opening = this.fetch(file).then((bytes) => this.engine(backend).open(name, bytes));
      opening.catch(() => this.opened.delete(name)); // the next try starts anew
      this.opened.set(name, opening);
    }
    return this.opened.get(name);
  }

  /** Outputs of a file on pixel values { data, dims }. */
  async run(file, pixels, backend = "wasm") {
    await this.open(file, backend);
    const feeds = { pixel_values: { type: "float32", ...pixels } };
    return this.engine(backend).run(`${backend} ${file.file}`, feeds);
  }

  /** The model's input of an image, made by the preprocessing graph. Returns { pixels, ms }. */
  async prepare({ width, height, data }) {
    const file = this.facts.preprocess;
    await this.open(file);
    const feeds = { image: { type: "uint8", data, dims: [1, height, width, 3] } };
    const { outputs, ms } = await this.engine("wasm").run(`wasm ${file.file}`, feeds);
    return { pixels: outputs.pixel_values, ms };
  }
}
