// The page's side of a worker: the same operations as promises.

export class Engine {
  /** backend: "wasm" or "webgpu". onBytes(n): n more bytes of the runtime have come. */
  constructor(backend, onBytes = () => {}) {
    this.backend = backend;
    this.waiting = new Map();
    this.next = 0;
    const url = new URL(`./worker.mjs?backend=${backend}`, import.meta.url);
    this.worker = new Worker(url, { type: "module" });
    this.worker.onmessage = ({ data }) => this.#take(data, onBytes);
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const [, { reject }] of this.waiting) reject(new Error(event.message || "worker lost"));
      this.waiting.clear();
    };
    this.ready = this.#call("start", {});
  }

  async open(name, bytes) {
    await this.ready;
    return this.#call("open", { name, bytes });
  }

  /** feeds: { name: { type, data, dims } }. Returns { outputs: { name: { data, dims } }, ms }. */
  run(name, feeds) {
    return this.#call("run", { name, feeds });
  }

  close(name) {
    return this.#call("close", { name });
  }

  #call(op, content) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, op, ...content });
    });
  }

  #take({ id, answer, error, bytes }, onBytes) {
    if (bytes) return onBytes(bytes);
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    return error === undefined ? resolve(answer) : reject(new Error(error));
  }
}

/** What WebGPU can do here: { available, half, name, why }. */
export async function webgpu() {
  if (!navigator.gpu) return { available: false, half: false, why: "this browser has no WebGPU" };
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  if (!adapter) return { available: false, half: false, why: "WebGPU finds no adapter here" };
  const { vendor, architecture, description } = adapter.info ?? {};
  const name = description || [vendor, architecture].filter(Boolean).join(" ") || "unnamed adapter";
  return { available: true, half: adapter.features.has("shader-f16"), name, why: "" };
}
