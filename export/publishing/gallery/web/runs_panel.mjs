// What this browser did: every file on every backend, each beside its limit. Nothing is shown that
// was not run here, and nothing is run that is known to be wrong.

import { webgpu } from "./engine.mjs";
import { summarise } from "./parity.mjs";
import { $, $$, milliseconds, scientific } from "./text.mjs";
import { runVectors } from "./vectors.mjs";

export class RunsPanel {
  constructor(root, lab) {
    this.root = root;
    this.lab = lab;
    this.rows = $$("tbody tr", root);
    this.all = $(".all", root);
    this.all.addEventListener("click", () => this.runAll());
    for (const row of this.rows) {
      $("button", row)?.addEventListener("click", () => this.run(row));
    }
  }

  /** After the first proof, whose result is the first row. */
  async enable(vectors, first) {
    this.vectors = vectors;
    this.#result(this.rows[0], first);
    const gpu = await webgpu();
    for (const row of this.rows.slice(1)) {
      const why = row.dataset.backend === "webgpu" ? reason(gpu, row.dataset.precision) : "";
      if (why) this.#note(row, why, "refused");
      else $("button", row).disabled = false;
    }
    $(".adapter", this.root).textContent = gpu.available
      ? `WebGPU adapter: ${gpu.name}, ${gpu.half ? "with" : "without"} shader-f16.`
      : `WebGPU: ${gpu.why}.`;
    this.all.disabled = false;
  }

  async runAll() {
    this.all.disabled = true;
    for (const row of this.rows) {
      if (row.dataset.state === "waiting") await this.run(row);
    }
    this.root.dataset.state = "done";
  }

  async run(row) {
    const { backend, precision } = row.dataset;
    $("button", row).disabled = true;
    this.#note(row, "running …", "running");
    try {
      const file = this.lab.facts.files[precision];
      const onImage = (done) => this.#note(row, `${done} of ${this.vectors.images}`, "running");
      const { rows, ms } = await runVectors(this.lab, this.vectors, file, backend, onImage);
      this.#result(row, { summary: summarise(rows), ms });
    } catch (error) {
      this.#note(row, `not run: ${error.message}`, "refused");
    }
  }

  #result(row, { summary, ms }) {
    const { worst, limit, same, images, passed } = summary;
    row.dataset.state = passed ? "passed" : "different";
    $(".worst", row).textContent = scientific(worst);
    $(".limit", row).textContent = Number.isFinite(limit) ? scientific(limit) : "accuracy decides";
    $(".same", row).textContent = `${same} of ${images}`;
    $(".time", row).textContent = milliseconds(ms);
    $(".state", row).textContent = passed ? "✓ passes" : "✗ fails";
  }

  #note(row, text, state) {
    row.dataset.state = state;
    $(".state", row).textContent = text;
  }
}

function reason(gpu, precision) {
  if (!gpu.available) return `not run: ${gpu.why}`;
  if (precision === "float16" && !gpu.half) {
    return "not run: without shader-f16 its numbers are silently wrong";
  }
  return "";
}
