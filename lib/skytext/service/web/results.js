// The grid of hits. Each hit is a button. The arrow keys move between the hits.

import { byId, el, moment, nameOf } from "./dom.js";
import { gridSize, picture, release } from "./pictures.js";

const list = byId("hits");

/**
 * Add hits to the grid.
 * @param {Array} hits the hits to add
 * @param {number} first the rank of the first hit in `hits`. Ranks start at 0.
 * @param {{hasImages: boolean, version: number, onOpen: function(number), onPoint: function(number|null)}} options
 */
export function addHits(hits, first, options) {
  hits.forEach((hit, i) => list.append(el("li", {}, card(hit, first + i, options))));
  if (first === 0 && list.firstElementChild) buttonAt(0).tabIndex = 0;
}

export function clearHits() {
  release(list);
  list.replaceChildren();
}

function card(hit, rank, { hasImages, version, onOpen, onPoint }) {
  const facts = [hit.table, hit.datetime && moment(hit.datetime).slice(0, 10), hit.gsd && `${Number(hit.gsd.toPrecision(3))} m`, nameOf(hit.uri)];
  return el(
    "button",
    {
      type: "button",
      class: "hit",
      tabindex: "-1",
      "data-rank": rank,
      "data-id": hit.image_id,
      on: {
        click: () => onOpen(rank),
        focus: () => {
          makeCurrent(rank);
          onPoint(rank);
        },
        blur: () => onPoint(null),
        pointerenter: () => onPoint(rank),
        pointerleave: () => onPoint(null),
      },
    },
    picture({ ...hit, version }, gridSize(), "", hasImages),
    el("span", { class: "sentence", text: hit.one_sentence }),
    el(
      "span",
      { class: "facts" },
      el("span", { class: "score", text: hit.score === null ? "–" : hit.score.toFixed(3), title: measures(hit) }),
      el("span", { text: `variant ${hit.variant + 1}`, title: "This description is nearest to the query" }),
      hit.duplicates?.length ? el("span", { text: `+${hit.duplicates.length} near-duplicates` }) : null,
    ),
    el("span", { class: "facts name", title: hit.uri, text: facts.filter(Boolean).join(" · ") }),
  );
}

export function measures(hit) {
  const words = typeof hit.bm25 === "number" ? `, BM25 ${hit.bm25.toFixed(2)}` : "";
  const own = typeof hit.image_cosine === "number" ? `, image cosine ${hit.image_cosine.toFixed(3)}` : "";
  return `cosine ${hit.cosine.toFixed(3)}${words}${own}`;
}

const buttons = () => [...list.querySelectorAll(".hit")];
export const buttonAt = (rank) => list.querySelector(`.hit[data-rank="${Number(rank)}"]`);

/** Select a hit. The Tab key then moves the focus to this hit. */
function makeCurrent(rank) {
  for (const button of buttons()) button.tabIndex = Number(button.dataset.rank) === rank ? 0 : -1;
}

export function focusHit(rank) {
  const button = buttonAt(rank);
  button?.focus();
  button?.scrollIntoView({ block: "nearest" });
}

export function mark(rank) {
  for (const button of buttons()) button.classList.toggle("marked", Number(button.dataset.rank) === rank);
}

const STEPS = {
  ArrowLeft: () => -1,
  ArrowRight: () => 1,
  ArrowUp: (columns) => -columns,
  ArrowDown: (columns) => columns,
  Home: () => -Infinity,
  End: () => Infinity,
};

list.addEventListener("keydown", (event) => {
  const current = event.target.closest(".hit");
  if (!current || !(event.key in STEPS) || event.ctrlKey || event.metaKey || event.altKey) return;
  const all = buttons();
  const top = all[0].offsetTop;
  const columns = all.filter((button) => button.offsetTop === top).length;
  const here = Number(current.dataset.rank);
  const there = here + STEPS[event.key](columns);
  event.preventDefault();
  if (event.key === "ArrowUp" && there < 0) {
    byId("text").focus();
    return;
  }
  focusHit(Math.max(0, Math.min(all.length - 1, there)));
});
