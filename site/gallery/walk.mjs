// A visitor's way through a served gallery; says what he met. Judged by tests/export/gallery.
//
// run(browser, base, { models: [{ slug, samples, brief }], webgpu: [slug], shots: folder | null })
// brief: without damaged files, accessibility and the phone, which do not depend on the model.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { deflateRawSync, deflateSync, gzipSync } from "node:zlib";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export async function run(browser, base, { models, webgpu = [], shots = null }) {
  const found = { index: await walkIndex(browser, base, shots), models: {} };
  for (const model of models) {
    found.models[model.slug] = await walkModel(browser, base, model, shots, webgpu);
  }
  return found;
}

async function visit(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const met = { errors: [], foreign: [], weight: 0 };
  const own = new URL(url).origin;
  page.on("console", (m) => m.type() === "error" && met.errors.push(m.text()));
  page.on("pageerror", (error) => met.errors.push(error.message));
  context.on("request", (request) => {
    if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(own)) {
      met.foreign.push(request.url());
    }
  });
  const bodies = [];
  context.on("response", (response) => {
    const packed = response.body().then((body) => Math.min(body.length, gzipSync(body).length));
    bodies.push(packed.catch(() => 0));
  });
  await page.addInitScript(() => {
    globalThis.shift = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  await page.goto(url);
  met.weigh = async () => (await Promise.all(bodies)).reduce((a, b) => a + b, 0);
  return { context, page, met };
}

async function faults(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  return serious.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.target).join(" ")}`);
}

async function walkIndex(browser, base, shots) {
  const found = { faults: [] };
  for (const [width, colorScheme] of [[1280, "light"], [390, "dark"]]) {
    const { context, page, met } = await visit(browser, base, {
      viewport: { width, height: 844 },
      colorScheme,
    });
    found.faults.push(...(await faults(page)));
    found[`wide${width}`] = await page.evaluate(() => document.documentElement.scrollWidth);
    found.errors = met.errors;
    found.foreign = met.foreign;
    found.cards = await page.locator(".models a").count();
    found.pictures = await page.$$eval(".models img", (all) => all.every((i) => i.naturalWidth > 0));
    if (shots) await page.screenshot({ path: `${shots}/index-${width}.png`, fullPage: true });
    await context.close();
  }
  return found;
}

async function settled(page) {
  await page.waitForSelector("html[data-settled]", { timeout: 120_000 });
}

async function walkModel(browser, base, { slug, samples, brief }, shots, webgpu) {
  const url = `${base}models/${slug}/`;
  const { context, page, met } = await visit(browser, url);
  await settled(page);
  const found = { weight: await met.weigh(), labels: [], same: [] };
  found.state = await page.getAttribute("#parity", "data-state");
  found.verdict = await page.textContent("#parity .detail");
  found.shift = await page.evaluate(() => globalThis.shift);
  for (let i = 0; i < samples; i++) {
    const button = page.locator(`.samples li:nth-child(${i + 1}) button`);
    const shown = (await button.getAttribute("aria-pressed")) === "true"; // as the first one is
    if (!shown) await button.click();
    await page.waitForFunction((n) => {
      const button = document.querySelectorAll(".samples button")[n];
      return button.getAttribute("aria-pressed") === "true";
    }, i);
    found.labels.push(await page.textContent(".answers li .label"));
    found.same.push(await page.getAttribute(".python", "data-state"));
  }
  if (!brief) {
    found.faults = await faults(page);
    found.problems = await walkProblems(page); // its last file is an image, for the next step
  }
  if (await page.$("#attention")) found.attention = await walkAttention(page);
  if (webgpu.includes(slug)) found.runs = await walkRuns(page);
  found.errors = met.errors;
  found.foreign = met.foreign;
  await context.close();
  if (!brief) found.phone = await walkPhone(browser, url, shots && `${shots}/${slug}-390.png`);
  return found;
}

async function walkAttention(page) {
  await page.locator("#attention").scrollIntoViewIfNeeded();
  await page.waitForSelector("#attention[data-state=drawn]");
  const colours = () =>
    page.$$eval("#attention .heads li:not([hidden]) canvas", (all) =>
      all.map((canvas) => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer)).size;
      }),
    );
  const places = [];
  const layers = await page.locator("#attention .layer option").count();
  const heads = [];
  for (let layer = 0; layer < layers; layer++) {
    await page.selectOption("#attention .layer", String(layer));
    heads.push(await colours());
  }
  places.push(await page.textContent("#attention .where"));
  await page.focus("#attention .picker canvas");
  await page.keyboard.press("ArrowUp");
  places.push(await page.textContent("#attention .where"));
  await page.click("#attention .heads li:first-child canvas", { position: { x: 3, y: 3 } });
  places.push(await page.textContent("#attention .where"));
  await page.selectOption("#attention .layer", "0");
  return { heads, places, gates: await page.locator("#attention .gate:not([hidden])").count() };
}

/* Files that are no images, or too large: each must get a message, and the page must live on. */
async function walkProblems(page) {
  const files = {
    empty: Buffer.alloc(0),
    damaged: damagedPng(),
    text: Buffer.from("not an image"),
    huge: hugePng(60_000, 60_000),
    fine: tinyPng(),
  };
  const told = {};
  for (const [name, buffer] of Object.entries(files)) {
    await page.evaluate(() => (document.querySelector("#answer .status").textContent = ""));
    await page.setInputFiles("input[type=file]", { name: `${name}.png`, mimeType: "image/png", buffer });
    await page.waitForFunction(() => document.querySelector("#answer .status").textContent);
    told[name] = await page.textContent("#answer .status");
  }
  return told;
}

function chunk(kind, data) {
  const body = Buffer.concat([Buffer.from(kind), data]);
  const whole = Buffer.alloc(body.length + 8);
  whole.writeUInt32BE(data.length);
  body.copy(whole, 4);
  whole.writeInt32BE(crc(body), body.length + 4);
  return whole;
}

function crc(bytes) {
  let value = -1;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  }
  return ~value;
}

function png(width, height, pixels) {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  const mark = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  const parts = [chunk("IHDR", head), chunk("IDAT", pixels), chunk("IEND", Buffer.alloc(0))];
  return Buffer.concat([mark, ...parts]);
}

const hugePng = (width, height) => png(width, height, deflateSync(Buffer.alloc(100)));
const tinyPng = () => png(5, 3, deflateSync(Buffer.alloc(3 * 16, 90).fill(0, 0, 1).fill(0, 16, 17).fill(0, 32, 33)));
const damagedPng = () => png(8, 8, deflateRawSync(Buffer.alloc(9)));

async function walkRuns(page) {
  await page.click("#runs .all");
  await page.waitForSelector("#runs[data-state=done]", { timeout: 240_000 });
  return page.$$eval("#runs tbody tr", (rows) =>
    rows.map((row) => ({
      ...row.dataset,
      text: row.innerText.replace(/\s+/g, " "),
    })),
  );
}

async function walkPhone(browser, url, shot) {
  const { context, page, met } = await visit(browser, url, {
    viewport: { width: 390, height: 844 },
    colorScheme: "dark",
  });
  await settled(page);
  const found = {
    wide: await page.evaluate(() => document.documentElement.scrollWidth),
    shift: await page.evaluate(() => globalThis.shift),
    faults: await faults(page),
    errors: met.errors,
  };
  await page.click("#theme");
  found.theme = await page.getAttribute("html", "data-theme");
  if (shot) await page.screenshot({ path: shot, fullPage: true });
  await context.close();
  return found;
}
