// The batch as the server tells it: a snapshot, then changes. It dispatches "change", "connection" and "dropped".

import { eventsPath } from "./api.js";

export class Batch extends EventTarget {
  constructor(id) {
    super();
    this.id = id;
    this.files = new Map();
    this.progress = { total: 0, done: 0, failed: 0, cancelled: 0, fraction: 0, source_bytes: 0, result_bytes: 0 };
    this.conversion = null;
    this.isDropped = false;
    this.isConnected = false;
  }

  connect() {
    this.source = new EventSource(eventsPath(this.id));
    this.source.addEventListener("open", () => this.#tellConnection(true));
    this.source.addEventListener("message", (event) => this.#apply(JSON.parse(event.data)));
    this.source.addEventListener("dropped", () => this.#drop());
    this.source.addEventListener("error", () => {
      if (this.source.readyState === EventSource.CLOSED) this.#checkWhyClosed();
      else this.#tellConnection(false);
    });
  }

  close() {
    this.source?.close();
    clearTimeout(this.retry);
  }

  // The browser gives no reason when it does not connect again, so the batch itself is asked.
  async #checkWhyClosed() {
    const response = await fetch(eventsPath(this.id).replace(/\/events$/, "")).catch(() => null);
    if (response?.status === 404) {
      this.#drop();
      return;
    }
    this.#tellConnection(false);
    this.retry = setTimeout(() => this.connect(), 1000);
  }

  #drop() {
    this.close();
    this.isDropped = true;
    this.dispatchEvent(new Event("dropped"));
  }

  // A stream ends now and then, and the browser continues it half a second later: that is no lost connection.
  #tellConnection(isConnected) {
    clearTimeout(this.lost);
    if (isConnected) this.#setConnected(true);
    else this.lost = setTimeout(() => this.#setConnected(false), 1500);
  }

  #setConnected(isConnected) {
    this.isConnected = isConnected;
    this.dispatchEvent(new Event("connection"));
  }

  #apply(update) {
    if (update.is_snapshot) this.files.clear();
    for (const file of update.files) this.files.set(file.key, file);
    this.progress = update.progress;
    this.conversion = update.conversion;
    this.dispatchEvent(new CustomEvent("change", { detail: update.files.map((file) => file.key) }));
  }
}
