// One browser for many questions: reads a JSON object per line, answers with one.
//
//     { op: "start", base }                       opens a page of a served gallery's assets
//     { op: "run", backend, file, feeds }         feeds: { name: { type, dims, data: base64 } }
//     { op: "walk", script, arguments }           a script's `run(browser, ...arguments)`
//
// `run` fetches the file from `base` once per backend and answers { outputs } in the same form.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

import { launch } from "./browse.mjs";

let browser = null;
let page = null;

const operations = {
  async start({ base }) {
    page = await browser.newPage();
    await page.goto(`${base}blank.html`);
    const gpu = await page.evaluate(async () => {
      const { webgpu } = await import("./assets/engine.mjs");
      const { Lab } = await import("./assets/lab.mjs");
      globalThis.lab = new Lab({}, document.baseURI);
      return webgpu();
    });
    return { browser: `Chromium ${browser.version()}`, gpu };
  },

  run: ({ backend, file, feeds }) => page.evaluate(answer, { backend, file, feeds }),

  async walk({ script, arguments: given }) {
    const { run } = await import(pathToFileURL(resolve(script)));
    return run(browser, ...given);
  },
};

/* In the page. */
async function answer({ backend, file, feeds }) {
  const kinds = { float32: Float32Array, uint8: Uint8Array };
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  await lab.open({ file, sha256: null }, backend);
  const given = Object.fromEntries(
    Object.entries(feeds).map(([name, { type, dims, data }]) => [
      name,
      { type, dims, data: new kinds[type](bytes(data).buffer) },
    ]),
  );
  const { outputs, ms } = await lab.engine(backend).run(`${backend} ${file}`, given);
  const text = (array) => {
    const view = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    let made = "";
    for (let i = 0; i < view.length; i += 8192) {
      made += String.fromCharCode(...view.subarray(i, i + 8192));
    }
    return btoa(made);
  };
  const entries = Object.entries(outputs).map(([name, { data, dims }]) => [
    name,
    { dims, data: text(data) },
  ]);
  return { outputs: Object.fromEntries(entries), ms };
}

browser = await launch();
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let response;
  try {
    response = { answer: await operations[request.op](request) };
  } catch (error) {
    response = { error: String(error?.message ?? error).slice(0, 500) };
  }
  process.stdout.write(`${JSON.stringify(response)}\n`);
}
await browser.close();
