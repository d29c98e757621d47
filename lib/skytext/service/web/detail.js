// The dialog for one image. It shows a large image, all descriptions, and how they were created.

import * as api from "./api.js";
import { byId, count, el, moment, nameOf } from "./dom.js";
import { picture, release } from "./pictures.js";
import { measures } from "./results.js";

const LARGE_PX = 1024;
const LINEAGE = [
  ["Captioned by", (r) => withRevision(r.caption_model, r.caption_model_revision)],
  ["Prompt", (r) => r.prompt_id],
  ["Engine", (r) => r.engine_version && `vLLM ${r.engine_version}`],
  ["Captioned on", (r) => joined(r.caption_device, r.caption_precision)],
  ["Prompt tokens, output tokens", (r) => joined(r.num_prompt_tokens, r.num_output_tokens)],
  ["Embedded by", (r) => withRevision(r.embedding_model, r.embedding_model_revision)],
  ["Embedded on", (r) => joined(r.embedding_device, r.embedding_precision)],
  ["Caption fingerprint", (r) => r.caption_fingerprint],
  ["Embedding fingerprint", (r) => r.embedding_fingerprint],
  ["Run", (r) => r.run_id],
  ["Described at", (r) => r.created_at && moment(r.created_at)],
  ["Shard", (r) => r.shard],
  ["Bytes", (r) => r.byte_offset == null ? null : `${count(r.byte_length)} at offset ${count(r.byte_offset)}`],
  ["SHA-256", (r) => r.content_sha256],
  ["Image id", (r) => r.image_id],
  ["Table", (r) => r.table],
  ["Table version", (r) => r.table_version],
];

const dialog = byId("detail");
let asked = null;
let options = null;

const withRevision = (name, revision) => [name, revision && `(${revision})`].filter(Boolean).join(" ");
const joined = (...parts) => parts.filter((part) => part !== null && part !== undefined).join(", ");

/**
 * Show an image in the dialog.
 * @param {import("./api.js").ImageOf} of the image to show
 * @param {Object|null} hit the hit for this image, or null if the image is not a hit
 * @param {{hasImages: boolean, onLike: function(string), onStep: function(number), onClose: function()}} given
 */
export async function openDetail(of, hit, given) {
  options = given;
  asked?.abort();
  asked = new AbortController();
  const { signal } = asked;
  build(of, hit, el("p", { class: "quiet", text: "Loading …" }));
  if (!dialog.open) dialog.showModal();
  try {
    const row = await api.image(of, signal);
    if (signal.aborted) return;
    byId("detail-rest").replaceChildren(...rest(row, hit));
    byId("detail-title").textContent = row.captions?.[hit?.variant ?? 0]?.one_sentence ?? nameOf(row.uri);
    byId("detail-uri").textContent = row.uri;
  } catch (error) {
    if (signal.aborted) return;
    byId("detail-rest").replaceChildren(
      el("div", { class: "problem", role: "alert" },
        el("strong", { text: error.title ?? "Error" }), el("p", { text: error.detail ?? String(error) })),
    );
  }
}

export const closeDetail = () => dialog.open && dialog.close();
export const isOpen = () => dialog.open;

function build(of, hit, waiting) {
  release(dialog);
  const step = (by) => () => options.onStep(by);
  dialog.replaceChildren(
    el("div", { class: "detail-top" },
      el("div", {},
        el("h2", { id: "detail-title", tabindex: "-1", text: hit?.one_sentence ?? "Image" }),
        el("p", { id: "detail-uri", class: "small quiet", text: hit?.uri ?? of.image_id })),
      el("div", { class: "row" },
        hit && el("button", { type: "button", class: "icon", "aria-label": "Previous image", on: { click: step(-1) }, text: "‹" }),
        hit && el("button", { type: "button", class: "icon", "aria-label": "Next image", on: { click: step(1) }, text: "›" }),
        el("button", { type: "button", class: "icon", "aria-label": "Close", on: { click: closeDetail }, text: "✕" }))),
    el("div", { class: "detail-body", tabindex: "0", role: "group", "aria-label": "Details of this image" },
      el("div", { class: "detail-picture" },
        picture(of, LARGE_PX, hit?.one_sentence ?? "", options.hasImages),
        el("div", { class: "row" },
          el("button", { type: "button", id: "more-like", class: "primary", text: "More like this", on: { click: () => like(uriShown()) } }),
          options.hasImages
            ? el("button", { type: "button", text: "Save original", on: { click: (event) => save(event.target, of, hit?.uri) } })
            : null)),
      el("div", { id: "detail-rest", class: "detail-rest" }, waiting)),
  );
  byId("detail-title").focus();
}

const uriShown = () => byId("detail-uri").textContent;

function like(uri) {
  options.onLike(uri);
  closeDetail();
}

function rest(row, hit) {
  const descriptions = (row.captions ?? []).map((variant, i) => {
    const matches = i === hit?.variant;
    return el("li", { class: matches ? "matching" : null },
      el("p", { class: "variant-head" },
        el("span", { text: `Variant ${i + 1}` }),
        matches ? el("span", { class: "tag", text: `nearest to the query: ${measures(hit)}` }) : null,
        variant.finish_reason && variant.finish_reason !== "stop"
          ? el("span", { class: "tag", text: `end of generation: ${variant.finish_reason}` }) : null),
      el("p", { class: "one-sentence", text: variant.one_sentence }),
      variant.feature ? el("p", { class: "feature", text: variant.feature }) : null,
      variant.caption ? el("p", { text: variant.caption }) : null);
  });
  const facts = [
    ["Taken", row.datetime && moment(row.datetime)],
    ["Bounds", row.bbox && Object.values(boundsOf(row.bbox)).map((degrees) => `${+degrees.toFixed(5)}°`).join(", ")],
    ["Resolution", row.gsd && `${row.gsd} m`],
    ["Collection", row.collection],
    ["Size", row.width_px && `${row.width_px} × ${row.height_px} px, ${row.format}`],
    ["Archive", row.archive],
  ];
  return [
    row.failure ? el("div", { class: "problem" }, el("p", { text: `${row.failure.stage}: ${row.failure.reason}: ${row.failure.detail ?? ""}` })) : null,
    section("Descriptions", el("ol", { class: "variants" }, ...descriptions)),
    section("Facts", terms(facts)),
    row.metadata && Object.keys(row.metadata).length
      ? section("Metadata", el("pre", { tabindex: "0", "aria-label": "Metadata", text: JSON.stringify(row.metadata, null, 2) })) : null,
    section("Lineage", terms(LINEAGE.map(([name, of]) => [name, of(row)]))),
  ].filter(Boolean);
}

function boundsOf(box) {
  if (!Array.isArray(box)) return { west: box.west, south: box.south, east: box.east, north: box.north };
  const [west, south, east, north] = box;
  return { west, south, east, north };
}

const section = (name, content) => el("section", {}, el("h3", { text: name }), content);

function terms(pairs) {
  const there = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", {}, ...there.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: String(value) })]));
}

/** Save the original image as a file. A link would not work, because a link sends no API key. */
async function save(button, of, uri) {
  button.disabled = true;
  try {
    const url = URL.createObjectURL(await api.original(of));
    el("a", { href: url, download: nameOf(uri ?? of.image_id) }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    button.after(el("p", { class: "problem", role: "alert", text: error.detail ?? String(error) }));
  } finally {
    button.disabled = false;
  }
}

dialog.addEventListener("close", () => {
  asked?.abort();
  release(dialog);
  options?.onClose();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) closeDetail();  // a click outside of the dialog
});
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") options.onStep(-1);
  else if (event.key === "ArrowRight") options.onStep(1);
  else return;
  event.preventDefault();
});
