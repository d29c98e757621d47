// Keyboard shortcuts. The key "/" selects the search field. In the search field, the down arrow moves
// to the hits.

import { isOpen } from "./detail.js";
import { byId } from "./dom.js";
import { buttonAt, focusHit } from "./results.js";

const hasModifier = (event) => event.ctrlKey || event.metaKey || event.altKey;

export function wireShortcuts() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select");
    if (event.key !== "/" || typing || hasModifier(event) || isOpen()) return;
    event.preventDefault();
    byId("text").focus();
    byId("text").select();
  });
  byId("text").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" || !buttonAt(0)) return;
    event.preventDefault();
    focusHit(0);
  });
}
