// The search form. This module reads a query from the fields, and shows a query in the fields.

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
      // If there is a text, search for this text and not for similar images.
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

  /** Return the query that the fields contain. */
  read() {
    const query = { text: byId("text").value.trim(), like: this.like };
    query.mode = document.querySelector("input[name=mode]:checked")?.value ?? "";
    for (const name of FILTERS) query[name] = byId(name).value.trim();
    return query;
  }

  /** Show a query in the fields. If the query has no mode, show the default mode of the table. */
  fill(query, table) {
    this.like = query.like;
    byId("text").value = query.text;
    for (const name of FILTERS) byId(name).value = query[name];
    this.choose(query.mode || table?.default_mode);
    const number = numFilters(query);
    byId("toggle-filters").textContent = number ? `Filters (${number})` : "Filters";
    if (number && matchMedia(WIDE).matches) this.open(true);
  }

  /** Add a search mode for which the page has no button. The label is the name of the mode. */
  add(mode) {
    if (document.querySelector(`input[name=mode][value="${CSS.escape(mode)}"]`)) return;
    const radio = el("input", { type: "radio", name: "mode", value: mode });
    byId("modes").append(el("label", {}, radio, el("span", { text: mode })));
  }

  choose(mode) {
    for (const radio of document.querySelectorAll("input[name=mode]")) radio.checked = radio.value === mode;
  }

  /** Show only the modes and filters that the table supports. */
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
