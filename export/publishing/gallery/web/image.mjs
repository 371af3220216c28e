// A file of the visitor as upright RGB pixels, transparency over white, as zoo.preprocessing reads it.

const MAX_BYTES = 40e6;
const MAX_PIXELS = 40e6;

export class ImageProblem extends Error {}

/** { width, height, data: Uint8Array of height x width x 3, bitmap }. Throws ImageProblem. */
export async function readImage(blob) {
  if (!blob.size) throw new ImageProblem("This file is empty; choose an image.");
  if (blob.size > MAX_BYTES) {
    const text = `This file has ${megabytes(blob.size)} MB; at most ${megabytes(MAX_BYTES)} are read.`;
    throw new ImageProblem(`${text} Save the image smaller.`);
  }
  checkPixels(statedSize(new Uint8Array(await blob.slice(0, 1 << 18).arrayBuffer())));
  const bitmap = await decoded(blob);
  checkPixels([bitmap.width, bitmap.height]);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const data = new Uint8Array(bitmap.width * bitmap.height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    data[to++] = rgba[from];
    data[to++] = rgba[from + 1];
    data[to++] = rgba[from + 2];
  }
  return { width: bitmap.width, height: bitmap.height, data, bitmap };
}

async function decoded(blob) {
  const how = { colorSpaceConversion: "none", premultiplyAlpha: "default" };
  try {
    return await createImageBitmap(blob, how);
  } catch {
    const text = "This browser cannot read that file as an image: it is damaged, or of another kind.";
    throw new ImageProblem(`${text} PNG, JPEG and WebP work everywhere.`);
  }
}

function checkPixels([width, height]) {
  if (width * height > MAX_PIXELS) {
    const text = `This image has ${width} × ${height} pixels; at most 40 million are read.`;
    throw new ImageProblem(`${text} Save it smaller.`);
  }
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);

/** Width and height that a header states, before anything is decoded; [0, 0] where unknown. */
export function statedSize(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
  try {
    if (text(1, 4) === "PNG") return [view.getUint32(16), view.getUint32(20)];
    if (text(0, 3) === "GIF") return [view.getUint16(6, true), view.getUint16(8, true)];
    if (text(0, 2) === "BM") return [view.getInt32(18, true), Math.abs(view.getInt32(22, true))];
    if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return webpSize(view, text(12, 16));
    if (bytes[0] === 0xff && bytes[1] === 0xd8) return jpegSize(view);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return [0, 0];
}

function webpSize(view, kind) {
  const three = (at) => view.getUint16(at, true) + (view.getUint8(at + 2) << 16);
  if (kind === "VP8X") return [three(24) + 1, three(27) + 1];
  if (kind === "VP8 ") return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
  const bits = view.getUint32(21, true);
  return [(bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1];
}

function jpegSize(view) {
  let at = 2;
  for (;;) {
    const marker = view.getUint16(at);
    const frame = marker >= 0xffc0 && marker <= 0xffcf && ![0xffc4, 0xffc8, 0xffcc].includes(marker);
    if (frame) return [view.getUint16(at + 7), view.getUint16(at + 5)];
    if (marker >> 8 !== 0xff) return [0, 0];
    at += 2 + view.getUint16(at + 2);
  }
}
