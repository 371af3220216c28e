// Pictures on canvases: what the model sees, and attention over it.

import { colour } from "./colours.mjs";

/** pixel_values (1, C, H, W) back as an image of grey levels. */
export function shownInput({ data, dims }, { mean, std }) {
  const [channels, height, width] = dims.slice(1);
  const image = new ImageData(width, height);
  const area = width * height;
  for (let at = 0; at < area; at++) {
    for (let c = 0; c < 3; c++) {
      const from = channels === 3 ? c : 0;
      image.data[4 * at + c] = Math.round(255 * (data[from * area + at] * std[from] + mean[from]));
    }
    image.data[4 * at + 3] = 255;
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** The image as large as the canvas; small ones with their pixels visible. */
export function paintImage(canvas, image) {
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.imageSmoothingEnabled = image.width > canvas.width;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
}

/** A map over the image. under: how much of the image shows through, 0 to 1; top: value of the end
 * of the scale. Where a head cannot look the image is grey and hatched. */
export function paintMap(canvas, image, map, top, under) {
  paintImage(canvas, image);
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#808080";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-over";
  eachPatch(canvas, map, (x, y, width, height, value) => {
    context.globalAlpha = Number.isNaN(value) ? 1 : 1 - under;
    context.fillStyle = Number.isNaN(value) ? hatch(context) : `rgb(${colour(value / top)})`;
    context.fillRect(x, y, width, height);
  });
  context.globalAlpha = 1;
}

function eachPatch(canvas, { rows, columns, values }, paint) {
  for (let row = 0; row < rows; row++) {
    const y = Math.round((row * canvas.height) / rows);
    const height = Math.round(((row + 1) * canvas.height) / rows) - y;
    for (let column = 0; column < columns; column++) {
      const x = Math.round((column * canvas.width) / columns);
      const width = Math.round(((column + 1) * canvas.width) / columns) - x;
      paint(x, y, width, height, values[row * columns + column]);
    }
  }
}

let hatched = null;

function hatch(context) {
  if (hatched) return hatched;
  const tile = new OffscreenCanvas(8, 8);
  const pen = tile.getContext("2d");
  pen.fillStyle = "rgba(128, 128, 128, 0.72)";
  pen.fillRect(0, 0, 8, 8);
  pen.strokeStyle = "rgba(0, 0, 0, 0.28)";
  for (const shift of [-8, 0, 8]) {
    pen.moveTo(shift, 8);
    pen.lineTo(shift + 8, 0);
  }
  pen.stroke();
  hatched = context.createPattern(tile, "repeat");
  return hatched;
}

/** A frame around one patch, white in black so that it shows on anything. */
export function paintFrame(canvas, [row, column], [rows, columns]) {
  const context = canvas.getContext("2d");
  const [width, height] = [canvas.width / columns, canvas.height / rows];
  for (const [line, style] of [[6, "#000"], [3, "#fff"]]) {
    context.lineWidth = line;
    context.strokeStyle = style;
    context.strokeRect(column * width + 2, row * height + 2, width - 4, height - 4);
  }
}
