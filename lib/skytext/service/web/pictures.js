// Thumbnails: requested with the key when they come near the screen, and released afterwards.

import * as api from "./api.js";
import { Problem } from "./api.js";
import { el } from "./dom.js";

const REASONS = {
  403: "outside what this service may show",
  404: "no image",
  410: "the archive has changed since",
  422: "cannot be shown",
  502: "the archive does not answer",
  "version-gone": "this version is no longer held",
};
const MARGIN = "300px";

const loads = new Map();
const urls = new WeakMap();
const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      const load = loads.get(target);
      if (!isIntersecting || !load) continue;
      near.unobserve(target);
      loads.delete(target);
      load();
    }
  },
  { rootMargin: MARGIN },
);

/**
 * A place for an image, which fills itself.
 * @param {import("./api.js").ImageOf} of which image
 * @param {number} size longer side in pixels
 * @param {string} alt
 * @param {boolean} has false where this service shows no images at all
 */
export function picture(of, size, alt, has) {
  const frame = el("span", { class: "picture" });
  if (!has) {
    frame.classList.add("none");
    frame.append(el("span", { class: "reason", text: "no image" }));
    return frame;
  }
  loads.set(frame, () => void fill(frame, of, size, alt));
  near.observe(frame);
  return frame;
}

async function fill(frame, of, size, alt) {
  const ended = new AbortController();
  urls.set(frame, { ended });
  try {
    const blob = await api.thumbnail(of, size, ended.signal);
    const url = URL.createObjectURL(blob);
    urls.set(frame, { ended, url });
    const image = el("img", { alt, src: url, decoding: "async" });
    frame.replaceChildren(image);
  } catch (error) {
    if (ended.signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    frame.classList.add("none");
    frame.title = error.detail || error.title;
    frame.replaceChildren(el("span", { class: "reason", text: REASONS[error.kind] ?? REASONS[error.status] ?? error.title }));
  }
}

/** Let go of all images below an element that is about to go. */
export function release(element) {
  for (const frame of element.querySelectorAll(".picture")) {
    near.unobserve(frame);
    loads.delete(frame);
    const held = urls.get(frame);
    held?.ended.abort();
    if (held?.url) URL.revokeObjectURL(held.url);
    urls.delete(frame);
  }
}

export const gridSize = () => (window.devicePixelRatio > 1.25 ? 512 : 256);
