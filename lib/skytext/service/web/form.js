// The form: reads a query out of its fields, and shows one in them.

import { byId, el, show } from "./dom.js";
import { FILTERS, numFilters } from "./query.js";

const WIDE = "(min-width: 60rem)";

export class Form {
  /** @param {{onSearch: function(Object), onDraw: function()}} options */
  constructor({ onSearch, onDraw }) {
    this.like = "";
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      const query = this.read();
      // New words start a new search. They do not refine the search by an image.
      onSearch(query.text ? { ...query, like: "" } : query);
    });
    byId("modes").addEventListener("change", () => {
      const query = this.read();
      if (query.text) onSearch({ ...query, like: "" });
    });
    byId("clear-filters").addEventListener("click", () => {
      for (const name of FILTERS) byId(name).value = "";
      onSearch(this.read());
    });
    byId("draw").addEventListener("click", onDraw);
    byId("toggle-filters").addEventListener("click", () => this.open(byId("filters").hidden));
  }

  /** The values of the fields. */
  read() {
    const query = { text: byId("text").value.trim(), like: this.like };
    query.mode = document.querySelector("input[name=mode]:checked")?.value ?? "";
    for (const name of FILTERS) query[name] = byId(name).value.trim();
    return query;
  }

  /** Show a query; where it names no mode, the table's own. */
  fill(query, table) {
    this.like = query.like;
    byId("text").value = query.text;
    for (const name of FILTERS) byId(name).value = query[name];
    this.choose(query.mode || table?.default_mode);
    const number = numFilters(query);
    byId("toggle-filters").textContent = number ? `Filters (${number})` : "Filters";
    if (number && matchMedia(WIDE).matches) this.open(true);
  }

  /** A mode that this page has no words for is offered by its name. */
  add(mode) {
    if (document.querySelector(`input[name=mode][value="${CSS.escape(mode)}"]`)) return;
    const radio = el("input", { type: "radio", name: "mode", value: mode });
    byId("modes").append(el("label", {}, radio, el("span", { text: mode })));
  }

  choose(mode) {
    for (const radio of document.querySelectorAll("input[name=mode]")) radio.checked = radio.value === mode;
  }

  /** Show only the modes and filters that the table can answer. */
  offer(table) {
    for (const field of document.querySelectorAll("[data-column]")) {
      show(field, table.filter_columns.includes(field.dataset.column));
    }
    for (const radio of document.querySelectorAll("input[name=mode]")) {
      show(radio.parentElement, table.modes.includes(radio.value));
    }
    for (const mode of table.modes) this.add(mode);
    if (!document.querySelector("input[name=mode]:checked")) this.choose(table.default_mode);
  }

  open(opened) {
    show(byId("filters"), opened);
    byId("toggle-filters").setAttribute("aria-expanded", String(opened));
  }
}
