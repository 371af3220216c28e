// The first thing on the page: whether this browser computes what the model computes.

import { comparesDigests } from "./download.mjs";
import { summarise } from "./parity.mjs";
import { $, element, megabytes, milliseconds, scientific } from "./text.mjs";
import { readVectors, runVectors } from "./vectors.mjs";

export class ParityPanel {
  constructor(root) {
    this.root = root;
    this.bytes = 0;
    this.result = null;
  }

  /** Progress of the first load. */
  loaded(bytes, total) {
    this.bytes += bytes;
    if (this.root.dataset.state !== "loading") return;
    const shown = Math.min(this.bytes, total);
    $("progress", this.root).value = shown / total;
    this.#say("Loading the model and its runtime", `${megabytes(shown)} of ${megabytes(total)}`);
  }

  /** A large model is not fetched before the visitor says so. */
  ask(facts, begin) {
    this.root.dataset.state = "waiting";
    const size = megabytes(facts.first_load_bytes);
    this.#say("Not run here yet", `Running it in this browser loads ${size}.`);
    const button = element("button", { type: "button", className: "primary", id: "begin" });
    button.textContent = `Load and check (${size})`;
    button.addEventListener("click", () => {
      button.remove();
      this.root.dataset.state = "loading";
      begin();
    });
    $(".verdict", this.root).append(button);
  }

  /** Runs model.onnx on the test vectors, which it returns for the other files. */
  async prove(lab) {
    this.root.dataset.state = "loading";
    const file = lab.facts.files.float32;
    const [vectors] = await Promise.all([readVectors(lab), lab.open(file)]);
    this.root.dataset.state = "running";
    const total = vectors.images;
    this.#say("Comparing with the float64 reference", `0 of ${total} images`);
    const { rows, ms } = await runVectors(lab, vectors, file, "wasm", (done) => {
      $("progress", this.root).value = done / total;
      this.#say("Comparing with the float64 reference", `${done} of ${total} images`);
    });
    this.result = { rows, ms, summary: summarise(rows) };
    this.#verdict();
    return vectors;
  }

  failed(error) {
    this.root.dataset.state = "failed";
    this.#say("This model could not be run here", `${error.message}.`.replace("..", "."));
  }

  #verdict() {
    const { rows, ms, summary } = this.result;
    const { images, worst, limit, passed, nearest } = summary;
    this.root.dataset.state = passed ? "passed" : "different";
    const where = `WebAssembly, 1 thread, ${milliseconds(ms)} per image`;
    const facts = [
      `${images} images`,
      `largest difference from float64 ${scientific(passed ? worst : nearest.worst)}`,
      `allowed ${scientific(passed ? limit : nearest.limit)}`,
    ];
    this.#say(passed ? "Exact here" : "Not exact here", `${facts.join(", ")}; ${where}.`);
    const table = $("tbody", this.root);
    table.replaceChildren(...rows.map((row) => this.#row(row)));
    $(".digest", this.root).textContent = comparesDigests()
      ? "The SHA-256 of every file that was loaded was compared with the one in model.json."
      : "Digests were not compared: browsers allow that on https and localhost only.";
    $("details", this.root).hidden = false;
  }

  #row({ kind, images, worst, limit, same, passed }) {
    const cells = [images, scientific(worst), scientific(limit), `${same} of ${images}`];
    const row = element("tr", {}, element("th", { scope: "row", textContent: kind }));
    row.append(...cells.map((text) => element("td", { textContent: text })));
    row.append(element("td", { textContent: passed ? "✓ passes" : "✗ fails" }));
    return row;
  }

  #say(title, detail) {
    $("h2", this.root).textContent = title;
    $(".detail", this.root).textContent = detail;
  }
}
