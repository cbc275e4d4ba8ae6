// Sends files, at most four at a time. A lost connection puts a file back into the queue.

import { sendFile } from "./api.js";

const AT_ONCE = 4;
const LONGEST_PAUSE_MS = 8000;

export class Uploads {
  constructor(onRefused) {
    this.onRefused = onRefused; // called with the key and the error, if the server does not take a file
    this.files = new Map(); // files of this page by key, kept for retries and for the comparison
    this.queue = [];
    this.running = new Map(); // abort controllers by key
    this.pauseMs = 0;
  }

  use(batch) {
    this.batch = batch;
    this.queue = [];
    for (const controller of this.running.values()) controller.abort();
    this.files.clear();
  }

  has(key) {
    return this.files.has(key);
  }

  isPending(key) {
    return this.running.has(key) || this.queue.includes(key);
  }

  add(key, file) {
    this.files.set(key, file);
    if (!this.isPending(key)) this.queue.push(key);
    this.#next();
  }

  send(key) {
    const file = this.files.get(key);
    if (file) this.add(key, file);
    return Boolean(file);
  }

  cancel(key) {
    this.queue = this.queue.filter((other) => other !== key);
    this.running.get(key)?.abort();
  }

  cancelAll() {
    for (const key of [...this.queue, ...this.running.keys()]) this.cancel(key);
  }

  #next() {
    while (this.running.size < AT_ONCE && this.queue.length && !this.timer) this.#send(this.queue.shift());
  }

  async #send(key) {
    const file = this.files.get(key);
    const batch = this.batch;
    const state = batch.files.get(key);
    if (batch.isDropped || (state?.state === "failed" && !state.failure.can_retry && !state.attempt)) return;
    const controller = new AbortController();
    this.running.set(key, controller);
    try {
      await sendFile(batch.id, key, file, controller.signal);
      this.pauseMs = 0;
    } catch (error) {
      if (!controller.signal.aborted) this.#failed(key, batch, error);
    }
    this.running.delete(key);
    this.#next();
  }

  #failed(key, batch, error) {
    if (batch !== this.batch) return;
    if (error instanceof TypeError) {
      if (this.#isFileGone(key)) this.onRefused(key, new Error("The file cannot be read any more. Choose it again."));
      else this.#pause(key, Math.min(Math.max(this.pauseMs * 2, 500), LONGEST_PAUSE_MS));
    } else if (error.status === 429 || error.status === 503) {
      this.#pause(key, Math.max(error.retryAfter * 1000, 500));
    } else if (error.code !== "cancelled" && error.code !== "in_progress") {
      this.onRefused(key, error);
    }
  }

  // The server has refused a file of which it did not read all, which looks like a lost connection.
  #isFileGone(key) {
    const state = this.batch.files.get(key);
    return state?.state === "failed" && !state.failure.can_retry;
  }

  #pause(key, ms) {
    this.queue.unshift(key);
    this.pauseMs = ms;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.resume(), ms);
  }

  // The connection is back.
  resume() {
    clearTimeout(this.timer);
    this.timer = null;
    this.#next();
  }
}
