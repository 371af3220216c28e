// The system's Chromium, quiet, with WebGPU through SwiftShader where there is no GPU.
// CONVATTN_CHROMIUM names the browser where it is not on the PATH.

import { execFileSync } from "node:child_process";

import { chromium } from "playwright-core";

const WEBGPU = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-unsafe-swiftshader",
];
const QUIET = [
  "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream",
];

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CONVATTN_CHROMIUM || found(),
    headless: true,
    ignoreDefaultArgs: ["--disable-gpu"],
    args: ["--no-sandbox", ...WEBGPU, ...QUIET],
  });
}

function found() {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    try {
      return execFileSync("which", [name], { encoding: "utf8" }).trim();
    } catch {
      continue;
    }
  }
  throw new Error("no Chromium on the PATH; set CONVATTN_CHROMIUM");
}
