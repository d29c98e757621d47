// The API key of this tab; the page asks for it if the service requires one.

import { key } from "./api.js";
import { byId } from "./dom.js";

/** @param {function()} onKey is called once there is a key. */
export function wireKey(onKey) {
  byId("change-key").addEventListener("click", () => askKey("The key of this tab."));
  byId("key-forget").addEventListener("click", () => {
    key.set("");
    byId("key-value").value = "";
    byId("key-value").focus();
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(byId("key-value").value.trim());
    if (!key.get()) return askKey("Without a key this service does not answer.");
    byId("key").close();
    return onKey();
  });
}

export function askKey(message) {
  byId("key-message").textContent = message;
  if (byId("key").open) return;  // the user may be typing
  byId("key-value").value = key.get();
  byId("key").showModal();
  byId("key-value").focus();
}
