// The dialog for the API key of this tab.

import { key } from "./api.js";
import { byId } from "./dom.js";

/** @param {function()} onKey the function to call after the user has entered a key */
export function wireKey(onKey) {
  byId("change-key").addEventListener("click", () => askKey("Change the API key of this tab."));
  byId("key-forget").addEventListener("click", () => {
    key.set("");
    byId("key-value").value = "";
    byId("key-value").focus();
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(byId("key-value").value.trim());
    if (!key.get()) return askKey("This service requires an API key: enter a key.");
    byId("key").close();
    return onKey();
  });
}

export function askKey(said) {
  byId("key-said").textContent = said;
  if (byId("key").open) return;  // the user may be typing, so do not replace the text
  byId("key-value").value = key.get();
  byId("key").showModal();
  byId("key-value").focus();
}
