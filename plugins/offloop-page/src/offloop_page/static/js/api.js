// Calls of the server. All addresses are relative, so that the page can be mounted below any path.

export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super([body.detail, body.advice].filter(Boolean).join(" ") || `The server answered with status ${status}.`);
    this.status = status;
    this.code = body.code ?? "http";
    this.retryAfter = retryAfter;
  }
}

async function call(method, path, body, options = {}) {
  const response = await fetch(path, { method, body, credentials: "same-origin", ...options });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Problem(response.status, problem, Number(response.headers.get("retry-after") ?? 0));
  }
  return response.status === 204 ? null : response.json();
}

function json(method, path, value) {
  return call(method, path, JSON.stringify(value), { headers: { "content-type": "application/json" } });
}

const batchPath = (id) => `api/batches/${encodeURIComponent(id)}`;
const filePath = (id, key) => `${batchPath(id)}/files/${encodeURIComponent(key)}`;

export const openSession = (token) => json("POST", "api/session", { token });
export const capabilities = () => call("GET", "api/capabilities");
export const createBatch = (conversion) => json("POST", "api/batches", conversion);
export const changeBatch = (id, conversion) => json("PATCH", batchPath(id), conversion);
export const cancelAll = (id) => call("POST", `${batchPath(id)}/cancel`);
export const uploadAll = (id) => call("POST", `${batchPath(id)}/upload`);
export const announce = (id, files) => json("POST", `${batchPath(id)}/files`, files);
export const cancelFile = (id, key) => call("DELETE", filePath(id, key));
export const sendFile = (id, key, file, signal) =>
  call("PUT", `${filePath(id, key)}?name=${encodeURIComponent(file.name)}`, file, { signal, headers: { "content-type": "application/octet-stream" } });

export const eventsPath = (id) => `${batchPath(id)}/events`;
export const archivePath = (id) => `${batchPath(id)}/archive`;
export const previewPath = (id, file) => `${filePath(id, file.key)}/preview?attempt=${file.attempt}`;
export const resultPath = (id, file, result) => `${filePath(id, file.key)}/results/${encodeURIComponent(result.key)}?attempt=${file.attempt}`;

const trackPath = (id) => `api/tracks/${encodeURIComponent(id)}`;

export const sendTrack = (file) => call("POST", "api/tracks", file, { headers: { "content-type": "audio/wav" } });
export const framesPath = (id) => `${trackPath(id)}/frames`;
export const startVideo = (id, picture) => json("POST", `${trackPath(id)}/video`, picture);
export const readVideo = (id) => call("GET", `${trackPath(id)}/video`);
export const cancelVideo = (id) => call("DELETE", `${trackPath(id)}/video`);
export const videoPath = (id) => `${trackPath(id)}/video/file`;

// The token of "#token=..." becomes a cookie that no script reads, and leaves the address.
export async function takeToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  if (token === null) return;
  fragment.delete("token");
  history.replaceState(null, "", `#${fragment}`);
  await openSession(token);
}
