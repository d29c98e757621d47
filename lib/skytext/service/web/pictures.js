// Thumbnails. A thumbnail is loaded when it is near the visible area. Its memory is released after use.

import * as api from "./api.js";
import { Problem } from "./api.js";
import { el } from "./dom.js";

const REASONS = {
  403: "this service may not show this image",
  404: "this image does not exist",
  410: "this image has changed in the archive",
  422: "this image cannot be shown",
  502: "the archive does not respond",
  "version-gone": "this version is no longer available",
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
 * Return an element that loads and shows an image when the element is near the visible area.
 * @param {import("./api.js").ImageOf} of the image to show
 * @param {number} size the maximum length of the longer side, in pixels
 * @param {string} alt the alternative text
 * @param {boolean} has true if this service can show images
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

/** Release the memory of all images in an element. Call this before the element is removed. */
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
