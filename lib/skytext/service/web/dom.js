// Functions that create elements. They insert text only as text, so that the browser never interprets
// text from a table as HTML.

export const byId = (id) => document.getElementById(id);

/**
 * Create an element.
 * @param {string} tag
 * @param {Object} props The entry `text` is the text of the element. The entry `on` contains event
 *   listeners. All other entries are attributes. If the value is null, undefined or false, the
 *   attribute is omitted.
 * @param {...(Node|string|null)} children
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function show(element, visible) {
  element.hidden = !visible;
}

export const count = (number) => Number(number).toLocaleString("en");

/** Format an ISO time: UTC, with minutes. If the text is not a time, return it unchanged. */
export function moment(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return String(text);
  const iso = time.toISOString();
  return iso.endsWith("T00:00:00.000Z") ? iso.slice(0, 10) : `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;
}

/** Return the last part of the address of an image, for example `harbour.jpg`. */
export const nameOf = (uri) => String(uri).split(/[/#]/).pop();
