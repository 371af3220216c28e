// onnxruntime-web in a worker of its own, so that the page stays alive while it computes.
// ?backend=wasm or ?backend=webgpu; messages are { id, op, ... }, answers { id, ... } or { id, error }.

import { download } from "./download.mjs";

const backend = new URL(self.location.href).searchParams.get("backend");
const RUNTIME = {
  wasm: ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm.gz"],
  webgpu: ["ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm.gz"],
}[backend];
const sessions = new Map();
let ort = null;

const operations = {
  async start({ id }) {
    const [module, binary] = RUNTIME.map((name) => new URL(`./ort/${name}`, import.meta.url).href);
    const onBytes = (bytes) => self.postMessage({ id, bytes });
    const [runtime, wasm] = await Promise.all([import(module), download(binary, { onBytes })]);
    ort = runtime;
    ort.env.wasm.wasmBinary = wasm.buffer;
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "error";
    return { version: ort.env.versions.web };
  },

  async open({ name, bytes }) {
    const how = { executionProviders: [backend], logSeverityLevel: 3 };
    sessions.set(name, await ort.InferenceSession.create(bytes, how));
    return { outputs: sessions.get(name).outputNames };
  },

  async run({ name, feeds }) {
    const session = sessions.get(name);
    const given = Object.entries(feeds).map(([key, { type, data, dims }]) => [
      key,
      new ort.Tensor(type, data, dims),
    ]);
    const started = performance.now();
    const answers = await session.run(Object.fromEntries(given));
    const outputs = {};
    for (const [key, tensor] of Object.entries(answers)) {
      outputs[key] = { data: await tensor.getData(), dims: Array.from(tensor.dims) };
    }
    return { outputs, ms: performance.now() - started };
  },

  async close({ name }) {
    await sessions.get(name)?.release();
    sessions.delete(name);
    return {};
  },
};

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ id: data.id, answer: await operations[data.op](data) });
  } catch (error) {
    self.postMessage({ id: data.id, error: String(error?.message ?? error) });
  }
};
