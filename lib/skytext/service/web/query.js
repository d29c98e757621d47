// The query. It has three forms: a link, the fields of the form on the page, and the body of a request.

/**
 * A search. All values are strings from the user or from the link. The API checks them.
 * @typedef {{text: string, like: string, mode: string, after: string, until: string, gsd: string,
 *   collection: string, bbox: string, where: string, version: string, image: string}} Query
 */

export const FILTERS = ["after", "until", "gsd", "collection", "bbox", "where"];

/** Return true if a text is a day in the form that a date field needs, for example 2024-05-31. */
function isDay(text) {
  const time = new Date(text);
  return !Number.isNaN(time.getTime()) && time.toISOString().slice(0, 10) === text;
}

const NUMBER = /^-?\d*\.?\d+(e[-+]?\d+)?$/i;
const FITS = { after: isDay, until: isDay, gsd: (text) => NUMBER.test(text) };
const NAMES = ["text", "like", "mode", ...FILTERS, "version", "image"];

/** @returns {Query} */
export function fromLink(search) {
  const params = new URLSearchParams(search);
  const query = Object.fromEntries(NAMES.map((name) => [name, (params.get(name) ?? "").trim()]));
  // A field may be unable to show a value from the link. Add this value to the field "Other condition".
  for (const [name, fits] of Object.entries(FITS)) {
    if (!query[name] || fits(query[name])) continue;
    const condition = filterText({ [name]: query[name] });
    query.where = query.where ? `(${query.where}) and ${condition}` : condition;
    query[name] = "";
  }
  return query;
}

/** @param {Query} query */
export function toLink(query) {
  const params = new URLSearchParams();
  for (const name of NAMES) if (query[name]) params.set(name, query[name]);
  const text = params.toString();
  return text ? `?${text}` : "./";
}

export const asksForSomething = (query) => Boolean(query.text || query.like);

/** @param {Query} query */
export function toBody(query, k, cursor) {
  const body = { k };
  if (query.text) body.text = query.text;
  if (query.like) body.like = [query.like];
  // A search for similar images must use a mode that compares vectors, because an image has no words.
  if (query.like && !query.mode.startsWith("image")) body.mode = "dense";
  else if (query.mode) body.mode = query.mode;
  const filter = filterText(query);
  if (filter) body.filter = filter;
  // Send an invalid version unchanged, so that the API refuses it. If it were converted to NaN, the
  // API would search the live version.
  if (query.version) body.version = /^\d+$/.test(query.version) ? Number(query.version) : query.version;
  if (cursor) body.cursor = cursor;
  return body;
}

const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

/** Return the filters as CQL2 text. */
export function filterText(query) {
  const parts = [];
  // If "Other condition" is the only filter, send it unchanged. Then the positions in error messages
  // are the positions in this field.
  if (query.where) parts.push(query.where);
  if (query.after) parts.push(`datetime >= ${quoted(query.after)}`);
  if (query.until) parts.push(`datetime <= ${quoted(query.until)}`);
  if (query.gsd) parts.push(`gsd <= ${query.gsd}`);
  if (query.collection) parts.push(`collection = ${quoted(query.collection)}`);
  if (query.bbox) parts.push(`S_INTERSECTS(geometry, BBOX(${query.bbox}))`);
  if (query.where && parts.length > 1) parts[0] = `(${query.where})`;
  return parts.join(" and ");
}

export const numFilters = (query) => FILTERS.filter((name) => query[name]).length;

/** Return [west, south, east, north] in degrees, or null if the text is not a valid box. */
export function parseBox(text) {
  const parts = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  const [west, south, east, north] = parts;
  const fits = parts.length === 4 && parts.every(Number.isFinite) && south <= north
    && Math.abs(west) <= 180 && Math.abs(east) <= 180 && Math.abs(south) <= 90 && Math.abs(north) <= 90;
  return fits ? parts : null;
}
