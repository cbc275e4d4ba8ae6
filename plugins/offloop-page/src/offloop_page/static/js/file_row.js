// One file: <file-row>. It changes only what differs, so that a thousand of them stay smooth.

import { previewPath, resultPath } from "./api.js";
import { bytes, percent, size, stateOf } from "./words.js";

const template = document.getElementById("row");
const RUNNING = new Set(["expected", "blocked", "uploading", "waiting", "working"]);

export class FileRow extends HTMLElement {
  connectedCallback() {
    if (this.name) return;
    this.setAttribute("role", "listitem");
    this.append(template.content.cloneNode(true));
    for (const part of ["name", "state", "links", "compare", "retry", "cancel"]) this[part] = this.querySelector(`.${part}`);
    this.bar = this.querySelector("progress");
    this.image = this.querySelector("img");
    this.shown = {};
    for (const action of ["compare", "retry", "cancel"]) {
      this[action].addEventListener("click", () => this.dispatchEvent(new CustomEvent(action, { bubbles: true, detail: this.key })));
    }
  }

  show(batchId, file, isHere) {
    this.key = file.key;
    this.#set("name", file.name, () => this.#setName(file.name));
    this.#set("state", file.state, () => (this.dataset.state = file.state));
    this.#set("text", stateOf(file, isHere), (text) => (this.state.textContent = text));
    this.#set("share", file.share, (share) => (this.bar.value = share));
    this.#set("value", percent(file.share), (text) => this.bar.setAttribute("aria-valuetext", text));
    this.#set("preview", file.has_preview ? previewPath(batchId, file) : "", (path) => this.#setPreview(path));
    this.#set("results", file.results, (results) => this.#setLinks(batchId, file, results), (results) => JSON.stringify(results) + file.attempt);
    const canRetry = (file.state === "failed" && file.failure.can_retry) || file.state === "cancelled" || (file.state === "expected" && !isHere);
    this.#set("retry", canRetry, () => (this.retry.hidden = !canRetry));
    this.#set("again", isHere, () => this.#setRetryName(file.name, isHere));
    this.#set("cancel", RUNNING.has(file.state), (is) => (this.cancel.hidden = !is));
    this.#set("compare", file.state === "done", (is) => (this.compare.hidden = !is));
  }

  // Before the server knows that its file is refused.
  refuse(message) {
    this.state.textContent = `Not sent: ${message}`;
    this.shown.text = null;
    this.retry.hidden = false;
    this.shown.retry = null;
  }

  #set(name, value, change, keyOf = (given) => given) {
    const key = keyOf(value);
    if (this.shown[name] === key) return;
    this.shown[name] = key;
    change(value);
  }

  #setName(name) {
    this.name.textContent = name;
    this.name.title = name;
    this.bar.setAttribute("aria-label", `Progress of ${name}`);
    this.cancel.setAttribute("aria-label", `Cancel ${name}`);
    this.compare.setAttribute("aria-label", `Compare ${name} with its original`);
  }

  #setRetryName(name, isHere) {
    this.retry.textContent = isHere ? "Retry" : "Choose again";
    this.retry.setAttribute("aria-label", isHere ? `Retry ${name}` : `Choose ${name} again`);
  }

  #setPreview(path) {
    this.image.hidden = !path;
    if (path) this.image.src = path;
    else this.image.removeAttribute("src");
  }

  #setLinks(batchId, file, results) {
    this.links.replaceChildren(
      ...results.map((result) => {
        const link = document.createElement("a");
        link.href = resultPath(batchId, file, result);
        link.download = result.name.split("/").pop();
        link.textContent = results.length > 1 ? `${result.width} px, ${bytes(result.nbytes)}` : "Download";
        link.setAttribute("aria-label", `Download ${result.name}, ${size(result)}, ${bytes(result.nbytes)}`);
        return link;
      }),
    );
  }
}

customElements.define("file-row", FileRow);
