// An image of the visitor or a sample: what the model answers, and whether Python answers the same.

import { ImageProblem, readImage } from "./image.mjs";
import { judge, ranking, softmax, summarise } from "./parity.mjs";
import { $, $$, milliseconds, percent, scientific } from "./text.mjs";

export class AnswerPanel {
  constructor(root, lab, attention) {
    this.root = root;
    this.lab = lab;
    this.attention = attention;
    this.turn = 0;
    this.samples = $$(".samples button", root);
    this.samples.forEach((button, index) =>
      button.addEventListener("click", () => this.sample(index)),
    );
  }

  /** The first sample, or an invitation where there is none. */
  async start() {
    await this.lab.prepare({ width: 8, height: 8, data: new Uint8Array(192) }); // warms up
    if (this.turn) return; // the visitor was faster
    if (this.samples.length) await this.sample(0);
    else this.#say("Ready: choose an image.");
  }

  async sample(index) {
    const stated = this.lab.facts.samples[index];
    const response = await fetch(new URL(stated.file, this.lab.base));
    await this.show(await response.blob(), stated.alt, stated);
    this.samples.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
  }

  /** Any image file. stated: what Python answered on it, for samples. */
  async show(blob, name, stated = null) {
    const turn = ++this.turn;
    this.samples.forEach((button) => button.setAttribute("aria-pressed", "false"));
    try {
      const image = await readImage(blob);
      const { pixels, ms } = await this.lab.prepare(image);
      const found = await this.lab.run(this.lab.facts.files.float32, pixels);
      if (turn !== this.turn) return; // a later image is on its way
      this.#preview(image, name);
      this.#answers(found.outputs[this.lab.facts.output].data);
      const times = `${milliseconds(found.ms)}, and ${milliseconds(ms)} to prepare the image`;
      this.#say(`Answered in ${times}.`);
      this.#compare(found.outputs[this.lab.facts.output].data, stated);
      this.attention?.show(pixels);
    } catch (error) {
      if (turn !== this.turn) return;
      const known = error instanceof ImageProblem;
      this.#say(known ? error.message : `This image could not be classified: ${error.message}`, true);
      $(".python", this.root).dataset.state = "";
      $(".python", this.root).textContent = "What is shown is the answer on the image before.";
    }
  }

  #preview(image, name) {
    const canvas = $("canvas.preview", this.root);
    const side = Math.min(canvas.width / image.width, canvas.height / image.height);
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    const [width, height] = [image.width * side, image.height * side];
    context.imageSmoothingEnabled = side < 1;
    const left = (canvas.width - width) / 2;
    context.drawImage(image.bitmap, left, (canvas.height - height) / 2, width, height);
    canvas.setAttribute("aria-label", `The image: ${name}, ${image.width} by ${image.height} pixels`);
    $(".hint", this.root).hidden = true;
  }

  #answers(logits) {
    const { labels } = this.lab.facts;
    const shares = softmax(logits);
    const order = ranking(logits);
    $$(".answers li", this.root).forEach((row, place) => {
      const index = order[place];
      row.hidden = index === undefined;
      if (row.hidden) return;
      $(".label", row).textContent = labels[index] ?? `class ${index}`;
      $(".share", row).textContent = percent(shares[index]);
      $(".bar", row).style.setProperty("--share", shares[index]);
    });
  }

  #compare(logits, stated) {
    const place = $(".python", this.root);
    place.dataset.state = "";
    if (!stated) {
      place.textContent = "Your image: it stays in this browser; nothing is uploaded.";
      return;
    }
    const { limits } = this.lab.facts;
    const rows = judge({
      actual: [logits], expected: [stated.logits], eager: [stated.eager_error], kinds: ["sample"],
      precision: "float32", limits,
    }); // prettier-ignore
    const { worst, limit, passed } = summarise(rows);
    place.dataset.state = passed ? "passed" : "different";
    const figures = `logits differ by ${scientific(worst)}, allowed ${scientific(limit)}`;
    place.textContent = passed
      ? `The same answer as in Python: ${figures}.`
      : `Not Python's answer: ${figures}. Does this browser alter the pixels that pages read?`;
  }

  #say(text, problem = false) {
    const place = $(".status", this.root);
    place.textContent = text;
    place.dataset.state = problem ? "problem" : "";
  }
}
