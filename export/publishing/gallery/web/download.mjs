// Files of this site, whole: with progress, unpacked, and compared with the digest of the manifest.

/**
 * The bytes at `url`. Files named .gz are unpacked here, whether or not the server said so itself.
 * digest: expected SHA-256; browsers can compute it only on https and on localhost.
 */
export async function download(url, { onBytes = () => {}, digest = null } = {}) {
  const name = new URL(url).pathname.split("/").pop();
  const response = await fetch(url).catch(() => null);
  if (!response) throw new Error(`${name} could not be fetched: is the connection up?`);
  if (!response.ok) throw new Error(`${name} is not there (HTTP ${response.status})`);
  let bytes = await collected(response, onBytes);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = await unpacked(bytes);
  if (digest && globalThis.crypto?.subtle && (await sha256(bytes)) !== digest) {
    throw new Error(`${name} is not the file that its manifest lists: its SHA-256 differs`);
  }
  return bytes;
}

/** Whether `download` compares digests here. */
export const comparesDigests = () => Boolean(globalThis.crypto?.subtle);

async function collected(response, onBytes) {
  const parts = [];
  let size = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
    onBytes(value.length);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

async function unpacked(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
