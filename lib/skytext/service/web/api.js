// Requests to the HTTP API. This module sends the API key, reads problem details (RFC 9457), and
// retries requests for thumbnails after the time in the header Retry-After.

const KEY = "skytext-api-key";
const MAX_TRIES = 4;
const MAX_WAIT_S = 10;
const THUMBNAILS_AT_ONCE = 4;

export class Problem extends Error {
  /** @param {number} status the HTTP status, or 0 if there was no response */
  constructor(status, title, detail, requestId = "", kind = "") {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.requestId = requestId;
    this.kind = kind;
    /** The API key that was sent with the request. */
    this.key = "";
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

const at = (path) => new URL(path, document.baseURI);

async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const sent = key.get();
  if (sent) headers.set("Authorization", `Bearer ${sent}`);
  let answer;
  try {
    answer = await fetch(at(path), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "No response", "The service cannot be reached. Check whether the service is running.");
  }
  if (!answer.ok) throw Object.assign(await problemOf(answer), { key: sent });
  return answer;
}

async function problemOf(answer) {
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // The body is empty, or the body is the error page of a proxy. Only the status is known.
  }
  const title = said.title || answer.statusText || "Error";
  const problem = new Problem(
    answer.status, `${answer.status} ${title}`, said.detail ?? "", said.request_id ?? "",
    String(said.type ?? "").split(":").pop(),
  );
  problem.retryAfterS = Number(answer.headers.get("Retry-After")) || 0;
  return problem;
}

const json = async (path, options) => (await ask(path, options)).json();

export const settings = () => json("page.json");
export const table = (signal) => json("v1/table", { signal });

/**
 * An image in one table and one version. The table is the field `table` of the hit. It is undefined
 * if one table is served. The version "" means the live version.
 * @typedef {{image_id: string, table: string|undefined, version: string|number}} ImageOf
 */

/** Return the path of an image. With `below`, return the path of the image's bytes or thumbnail. */
function imagePath({ image_id: id, table, version }, below = "", params = {}) {
  const named = { ...(version ? { version } : {}), ...(table ? { table } : {}) };
  const given = new URLSearchParams({ ...params, ...named }).toString();
  return `v1/images/${encodeURIComponent(id)}${below}${given ? `?${given}` : ""}`;
}

export const image = (of, signal) => json(imagePath(of), { signal });

export const search = (body, signal) =>
  json("v1/search", {
    method: "POST",
    signal,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

/** Return the original bytes of an image from the archive, as a blob. */
export const original = async (of) => (await ask(imagePath(of, "/bytes"))).blob();

/** Return a thumbnail as a blob. The longer side has at most `size` pixels. Requests wait in a queue. */
export const thumbnail = (of, size, signal) =>
  turns.take(async () => {
    const path = imagePath(of, "/thumbnail", { size });
    for (let tried = 1; ; tried += 1) {
      try {
        return await (await ask(path, { signal })).blob();
      } catch (error) {
        const busy = error instanceof Problem && (error.status === 503 || error.status === 429);
        if (!busy || tried === MAX_TRIES) throw error;
        await pause(Math.min(error.retryAfterS || 1, MAX_WAIT_S), signal);
      }
    }
  }, signal);

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

// A queue for requests. The service reads only a few images at the same time, and refuses further
// requests for images. Therefore, requests for thumbnails wait in this queue.
const turns = {
  running: 0,
  waiting: [],
  async take(work, signal) {
    if (this.running >= THUMBNAILS_AT_ONCE) await new Promise((go) => this.waiting.push(go));
    else this.running += 1;
    try {
      signal?.throwIfAborted();
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.running -= 1;
    }
  },
};
