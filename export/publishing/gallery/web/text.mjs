// Numbers and elements as the pages show them.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** 1.8e-6 as 1.8 × 10⁻⁶, for numbers of any size. */
export function scientific(value) {
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return "not finite";
  const [digits, power] = value.toExponential(1).split("e");
  if (Math.abs(Number(power)) < 2) return String(Number(value.toPrecision(2)));
  const raised = String(Number(power)).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻");
  return `${digits} × 10${raised}`;
}

export const percent = (share) => `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 2 : 1)} %`;

export const milliseconds = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** An element with text, never HTML: labels may come from anyone. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
