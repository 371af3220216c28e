// Where every head of a layer looks from one patch. The patch is picked by mouse, finger or arrows.

import { extent, headMap, peak } from "./attention.mjs";
import { paintScale } from "./colours.mjs";
import { paintFrame, paintImage, paintMap, shownInput } from "./drawing.mjs";
import { $, megabytes, percent } from "./text.mjs";

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export class AttentionPanel {
  constructor(root, lab) {
    this.root = root;
    this.lab = lab;
    this.layers = lab.facts.attention.layers;
    this.place = [0.5, 0.5]; // shares of height and width, since grids differ by layer
    this.weights = null;
    this.picker = $(".picker canvas", root);
    paintScale($(".scale canvas", root));
    for (const name of [".layer", ".scaling", ".under"]) {
      $(name, root).addEventListener("input", () => this.#paint());
    }
    this.picker.addEventListener("pointerdown", (event) => this.#pick(event));
    this.picker.addEventListener("keydown", (event) => this.#move(event));
    $(".heads", root).addEventListener("pointerdown", (event) => this.#pick(event));
    this.seen = new Promise((resolve) => {
      const watch = new IntersectionObserver((entries) => {
        if (entries.some((entry) => entry.isIntersecting)) resolve(watch.disconnect());
      });
      watch.observe(root);
    });
  }

  get layer() {
    return this.layers[Number($(".layer", this.root).value)];
  }

  get query() {
    return extent(this.layer).map((count, axis) => Math.floor(this.place[axis] * count));
  }

  /** The attention on an image, once the visitor comes by; a large file waits for his word. */
  async show(pixels) {
    this.pixels = pixels;
    await this.seen;
    if (pixels !== this.pixels) return;
    const { file, bytes } = this.lab.facts.attention;
    if (bytes > 3e6 && !this.lab.opened.has(`wasm ${file}`)) return this.#ask(bytes);
    await this.#compute().catch((error) => this.#say(`Not computed: ${error.message}`));
  }

  #ask(bytes) {
    const button = $(".load", this.root);
    button.hidden = false;
    button.textContent = `Load the attention graph (${megabytes(bytes)})`;
    button.onclick = () => {
      button.hidden = true;
      this.#compute().catch((error) => this.#say(`Not computed: ${error.message}`));
    };
  }

  async #compute() {
    const { pixels } = this;
    const { outputs } = await this.lab.run(this.lab.facts.attention, pixels);
    if (pixels !== this.pixels) return;
    this.weights = outputs;
    this.image = shownInput(pixels, this.lab.facts.input);
    this.#paint();
    this.root.dataset.state = "drawn";
  }

  #paint() {
    if (!this.weights) return;
    const { layer, query } = this;
    const size = extent(layer);
    paintImage(this.picker, this.image);
    paintFrame(this.picker, query, size);
    const where = `row ${query[0] + 1} of ${size[0]}, column ${query[1] + 1} of ${size[1]}`;
    this.picker.setAttribute("aria-label", `Patch to look from: ${where}. Arrow keys move it.`);
    $(".where", this.root).textContent = `From ${where}`;
    const weights = this.weights[layer.output];
    const maps = Array.from({ length: layer.heads }, (_, h) => headMap(layer, weights, h, query));
    const tops = maps.map((map) => peak(map).value || 1);
    const shared = $(".scaling", this.root).value === "shared" ? Math.max(...tops) : 0;
    this.#legend(shared);
    const under = Number($(".under", this.root).value) / 100;
    const figures = this.#figures(layer.heads);
    maps.forEach((map, head) => {
      const canvas = $("canvas", figures[head]);
      paintMap(canvas, this.image, map, shared || tops[head], under);
      paintFrame(canvas, query, size);
      this.#describe(figures[head], layer, head, map);
    });
  }

  #figures(count) {
    const list = $(".heads", this.root);
    while (list.children.length < count) list.append(list.children[0].cloneNode(true));
    return [...list.children].map((figure, index) => {
      figure.hidden = index >= count;
      return figure;
    });
  }

  #describe(figure, layer, head, map) {
    const { value, place } = peak(map);
    const text = `peak ${percent(value)} at row ${place[0] + 1}, column ${place[1] + 1}`;
    $("canvas", figure).setAttribute("aria-label", `Attention of head ${head + 1}: ${text}`);
    $(".name", figure).textContent = `Head ${head + 1}`;
    $(".peak", figure).textContent = text;
    const gate = $(".gate", figure);
    gate.hidden = !layer.gates;
    if (!layer.gates) return;
    const share = layer.gates[head];
    $(".value", gate).textContent = `gate ${share.toFixed(2)}`;
    $(".bar", gate).style.setProperty("--share", share);
  }

  #legend(shared) {
    $(".scale .top", this.root).textContent = shared ? percent(shared) : "each head's peak";
  }

  #pick(event) {
    const canvas = event.target.closest("canvas");
    if (!canvas || !this.weights) return;
    const box = canvas.getBoundingClientRect();
    const share = (value, length) => Math.min(Math.max(value / length, 0), 0.9999);
    this.place = [
      share(event.clientY - box.top, box.height),
      share(event.clientX - box.left, box.width),
    ];
    this.#paint();
  }

  #move(event) {
    const step = MOVES[event.key];
    if (!step || !this.weights) return;
    event.preventDefault();
    const size = extent(this.layer);
    this.place = this.query.map((at, axis) => {
      const next = Math.min(Math.max(at + step[axis], 0), size[axis] - 1);
      return (next + 0.5) / size[axis];
    });
    this.#paint();
  }

  #say(text) {
    $(".where", this.root).textContent = text;
  }
}
