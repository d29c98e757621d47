// The web page. The address of the page contains the query. The page shows the results of this query.

import * as api from "./api.js";
import { Problem, key } from "./api.js";
import { closeDetail, openDetail } from "./detail.js";
import { byId, el, nameOf, show } from "./dom.js";
import { Form } from "./form.js";
import { askKey, wireKey } from "./key.js";
import { aboutText, foundText, problemBox, staleBox, welcomeBox } from "./notices.js";
import { picture, release } from "./pictures.js";
import { asksForSomething, fromLink, parseBox, toBody, toLink } from "./query.js";
import { addHits, clearHits, focusHit, mark } from "./results.js";
import { wireShortcuts } from "./shortcuts.js";

const PAGE_SIZE = 24;

const state = {
  query: fromLink(location.search),
  settings: null,
  table: null,
  map: null,
  mapping: null,
  hits: [],
  cursor: null,
  mode: null,
  running: null,
  likeName: "",
};

const form = new Form({
  onSearch: go,
  onDraw: () => draw(),
});

async function start() {
  try {
    state.settings = await api.settings();
  } catch (error) {
    return fail(error, start);
  }
  show(byId("change-key"), state.settings.requires_key);
  if (state.settings.requires_key && !key.get()) return askKey("This service requires an API key.");
  return begin();
}

/** Run the query in the address of the page. At the same time, load the facts about the table. */
async function begin() {
  const searched = run();
  try {
    setTable(await api.table());
  } catch (error) {
    return fail(error, begin);
  }
  if (!asksForSomething(state.query)) welcome();
  await searched;
  const { image } = state.query;
  if (image) open(state.hits.findIndex((hit) => hit.image_id === image), image);
}

function setTable(table) {
  state.table = table;
  byId("about").textContent = aboutText(table);
  form.offer(table);
  if (table.filter_columns.includes("bbox")) state.mapping ??= makeMap();
}

function welcome() {
  const search = (text) => go({ ...form.read(), text, like: "" });
  byId("welcome").replaceChildren(...welcomeBox(state.table, search));
  show(byId("welcome"), true);
}

function wire() {
  byId("more").addEventListener("click", more);
  byId("copy").addEventListener("click", copyLink);
  wireKey(begin);
  wireShortcuts();
  byId("toggle-map").addEventListener("click", () => showMap(byId("map-panel").classList.toggle("shown")));
  window.addEventListener("popstate", () => {
    closeDetail();
    state.query = fromLink(location.search);
    form.fill(state.query, state.table);
    void begin();
  });
}

/** Run a new search in the live version. */
function go(query) {
  state.query = { ...query, version: "", image: "" };
  form.fill(state.query, state.table);
  history.pushState(null, "", toLink(state.query));
  void run();
}

/** Run the current query, and show the first page of results. */
async function run() {
  const { query } = state;
  state.map?.setBox(parseBox(query.bbox));
  showLike();
  state.running?.abort();
  show(byId("welcome"), false);
  clearFailure();
  document.title = query.text ? `${query.text} – skytext` : "skytext";
  if (!asksForSomething(query)) {
    reset();
    if (state.table) welcome();
    return;
  }
  await ask(null, run, (answer) => {
    reset();
    window.scrollTo({ top: 0 });
    if (query === state.query) keepVersion(answer.table_version);
    take(answer);
    stale(answer.table_version);
  });
}

async function more() {
  await ask(state.cursor, more, (answer) => {
    const first = state.hits.length;
    take(answer);
    focusHit(first);
  });
}

async function ask(cursor, again, onAnswer) {
  const ended = new AbortController();
  state.running = ended;
  busy(true);
  try {
    const size = Math.min(PAGE_SIZE, state.table?.max_k ?? PAGE_SIZE);
    const answer = await api.search(toBody(state.query, size, cursor), ended.signal);
    if (ended.signal.aborted) return;
    clearFailure();
    onAnswer(answer);
    performance.mark("skytext-results");
  } catch (error) {
    if (ended.signal.aborted) return;
    if (!cursor) reset();
    fail(error, again);
  } finally {
    if (state.running === ended) busy(false);
  }
}

function reset() {
  state.hits = [];
  state.cursor = null;
  clearHits();
  show(byId("more"), false);
  show(byId("copy"), false);
  show(byId("stale"), false);
  byId("status").textContent = "";
  state.map?.setHits([]);
}

function take(answer) {
  const first = state.hits.length;
  state.hits = [...state.hits, ...answer.hits];
  state.cursor = answer.next_cursor;
  state.mode = answer.mode;
  addHits(answer.hits, first, {
    hasImages: state.settings.has_images, version: answer.table_version, onOpen: open, onPoint: point,
  });
  show(byId("more"), Boolean(state.cursor));
  show(byId("copy"), true);
  state.map?.setHits(state.hits);
  byId("status").textContent = foundText(answer, state.hits.length);
}

/** Add the version to the address of the page. The link then finds the same images after a promotion. */
function keepVersion(version) {
  state.query = { ...state.query, version: String(version) };
  history.replaceState(null, "", toLink(state.query));
}

async function stale(version) {
  const asked = state.query;
  if (!state.table || state.table.table_version !== version) {
    try {
      setTable(await api.table());
    } catch {
      return;  // the results are correct, so do not show an error for the missing live version
    }
  }
  const live = state.table.table_version;
  // Results from the version of the canary are not out of date.
  if (live === version || state.table.canary_version === version || asked !== state.query) return;
  byId("stale").replaceChildren(...staleBox(version, live, searchLive));
  show(byId("stale"), true);
}

const searchLive = () => go(state.query);
function fail(error, again) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401) {
    // If the user has entered another key after this request was sent, ignore the response.
    return error.key === key.get() ? askKey(error.detail) : undefined;
  }
  const gone = error.status === 410;
  const box = gone
    ? problemBox(error, "Search the live version", searchLive)
    : problemBox(error, "Try again", again);
  byId("failure").replaceChildren(box);
  box.scrollIntoView({ block: "nearest" });
}

const clearFailure = () => byId("failure").replaceChildren();

function busy(is) {
  byId("results").setAttribute("aria-busy", String(is));
  byId("hits").classList.toggle("busy", is);
  byId("more").disabled = is;
  if (is) byId("status").textContent = "Searching …";
}

function showLike() {
  const holder = byId("like");
  release(holder);
  holder.replaceChildren();
  show(holder, Boolean(state.query.like));
  if (!state.query.like || !state.settings) return;
  holder.append(
    picture({ image_id: state.query.like, version: state.query.version }, 128, "", state.settings.has_images),
    el("span", { text: `More like ${state.likeName || "this image"}` }),
    el("button", { type: "button", class: "icon", "aria-label": "Stop the search for similar images", text: "✕", on: { click: () => go({ ...state.query, like: "" }) } }),
  );
}

function open(rank, id = null) {
  const hit = state.hits[rank] ?? null;
  const image = hit?.image_id ?? id;
  if (!image) return;
  state.query = { ...state.query, image };
  history.replaceState(null, "", toLink(state.query));
  void openDetail({ image_id: image, table: hit?.table, version: state.query.version }, hit, {
    hasImages: state.settings.has_images,
    onStep: (by) => state.hits[rank + by] && open(rank + by),
    onLike: (uri) => {
      state.likeName = nameOf(uri);
      go({ ...form.read(), text: "", like: image });
    },
    onClose: () => {
      if (state.query.image !== image) {  // the user has started another search
        byId("results").focus({ preventScroll: true });
        return;
      }
      state.query = { ...state.query, image: "" };
      history.replaceState(null, "", toLink(state.query));
      if (hit) focusHit(rank);
      else byId("text").focus();
    },
  });
}

function point(rank) {
  mark(rank);
  state.map?.mark(rank);
}

/** Load the map. Do this after the first results, because the map is the largest part of the page. */
async function makeMap() {
  show(byId("map-panel"), true);
  show(byId("toggle-map"), true);
  const { FootprintMap, loadLeaflet } = await import("./map.js");
  await loadLeaflet();
  state.map = new FootprintMap({
    tilesUrl: state.settings.map_tiles_url,
    attribution: state.settings.map_tiles_attribution,
    onOpen: open,
    onPoint: point,
    onBox: (box) => go({ ...form.read(), bbox: box.join(",") }),
  });
  state.map.setBox(parseBox(state.query.bbox));
  state.map.setHits(state.hits);
}

function draw() {
  if (!state.map) return;
  showMap(true);
  const button = byId("draw");
  if (button.getAttribute("aria-pressed") === "true") return state.map.stopDrawing();
  button.setAttribute("aria-pressed", "true");
  byId("map-note").textContent = "Drag a rectangle on the map. To cancel, press Esc.";
  state.map.startDrawing(() => {
    button.setAttribute("aria-pressed", "false");
    byId("map-note").textContent = "";
  });
}

function showMap(shown) {
  byId("map-panel").classList.toggle("shown", shown);
  byId("toggle-map").setAttribute("aria-expanded", String(shown));
}

async function copyLink() {
  const said = byId("copy");
  try {
    await navigator.clipboard.writeText(location.href);
    said.textContent = "Copied";
  } catch {
    // A browser allows access to the clipboard only over HTTPS, or if the service is on the same machine.
    said.textContent = "Cannot copy the link: copy the address of this page";
  }
  setTimeout(() => { said.textContent = "Copy link"; }, 2500);
}

wire();
// Fill the form before any response arrives. Later, this could replace text that the user is typing.
form.fill(state.query, null);
void start();
