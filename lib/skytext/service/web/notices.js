// Texts that the page shows near the results: errors, the notice about an old version, the welcome text.

import { count, el, moment } from "./dom.js";

const EXAMPLES = ["storage tanks beside a river", "ships in a harbour", "farmland crossed by a road"];

const button = (text, click) => el("button", { type: "button", text, on: { click } });
const images = (number) => `${count(number)} ${number === 1 ? "image" : "images"}`;

/** Return an element that shows an error of the API (RFC 9457), with a button to continue. */
export function problemBox(error, label, again) {
  return el("div", { class: "problem" },
    el("strong", { text: error.title }),
    error.detail ? el("p", { text: error.detail }) : null,
    error.retryAfterS ? el("p", { text: `Wait ${error.retryAfterS} s before you try again.` }) : null,
    error.requestId ? el("p", { class: "small quiet", text: `request ${error.requestId}` }) : null,
    button(label, again));
}

export const staleBox = (version, live, searchLive) => [
  el("span", { text: `These results are from version ${version}. The live version is ${live}.` }),
  button(`Search version ${live}`, searchLive),
];

export function welcomeBox({ num_ok: number, caption_models: models }, search) {
  return [
    el("p", { class: "large", text: number ? `Search ${images(number)} in plain words.` : "This table has no images yet." }),
    models.length ? el("p", { class: "quiet", text: `Described by ${models.join(", ")}.` }) : null,
    el("p", { class: "row examples" }, ...EXAMPLES.map((text) => button(text, () => search(text)))),
  ].filter(Boolean);
}

export function aboutText({ table_version: version, num_ok: number, created_at: made, pinned, tables }) {
  const where = tables.length > 1 ? ` in ${tables.map(({ name }) => name).join(", ")}` : "";
  return `${images(number)}${where} · version ${version} of ${moment(made)}${pinned ? ", pinned" : ""}`;
}

export function foundText(answer, found) {
  const how = `${answer.mode}${answer.exact ? ", exact" : ""} · version ${answer.table_version}`;
  if (!found) return `Nothing found${answer.note ? `: ${answer.note}` : ""} · ${how}`;
  const said = answer.note ? ` · ${answer.note}` : "";
  return `${answer.next_cursor ? "The best " : ""}${images(found)} · ${how}${said}`;
}
