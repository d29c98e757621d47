// Elements without markup: whatever a table says of its images stays text.

export const byId = (id) => document.getElementById(id);

/**
 * Make an element.
 * @param {string} tag
 * @param {Object} props `class`, `text`, `on` (listeners by event), everything else an attribute;
 *   null, undefined and false leave an attribute out.
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

/** The time of an ISO text, to the minute and in UTC; the text itself where it is none. */
export function moment(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return String(text);
  const iso = time.toISOString();
  return iso.endsWith("T00:00:00.000Z") ? iso.slice(0, 10) : `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;
}

/** The last part of an image's address: `harbour.jpg`. */
export const nameOf = (uri) => String(uri).split(/[/#]/).pop();
