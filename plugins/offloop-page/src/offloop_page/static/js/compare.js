// The comparison of a result with its original: a divider that moves by pointer, touch and keyboard, and zoom to 1:1.

import { resultPath } from "./api.js";
import { bytes, format, saved, size } from "./words.js";

const FIT = 0;
const STEPS = [0.25, 0.5, 1, 2, 4, 8];

export class Compare {
  constructor() {
    for (const name of ["view", "stage", "after", "clip", "before", "handle", "range", "result", "close", "title"]) {
      this[name] = document.getElementById(`compare-${name}`);
    }
    this.dialog = document.getElementById("compare");
    this.beforeText = document.getElementById("compare-before-text");
    this.afterText = document.getElementById("compare-after-text");
    this.zoomText = document.getElementById("zoom-text");
    this.resultLabel = document.getElementById("compare-result-label");
    this.zoom = FIT;
    this.range.addEventListener("input", () => this.#place());
    this.result.addEventListener("change", () => this.#showResult());
    this.close.addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => this.#end());
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
    this.after.addEventListener("load", () => this.#layout());
    this.before.addEventListener("error", () => this.#withoutOriginal("The browser cannot show the original's format."));
    for (const [id, change] of [["zoom-in", 1], ["zoom-out", -1]]) document.getElementById(id).addEventListener("click", () => this.#step(change));
    document.getElementById("zoom-fit").addEventListener("click", () => this.#setZoom(FIT));
    document.getElementById("zoom-full").addEventListener("click", () => this.#setZoom(1));
    new ResizeObserver(() => this.#layout()).observe(this.view);
    this.#followPointer();
  }

  open(batchId, file, original) {
    this.batchId = batchId;
    this.file = file;
    this.original = original;
    this.title.textContent = `Compare ${file.name}`;
    this.result.replaceChildren(...file.results.map((result) => new Option(`${result.width} px`, result.key)));
    this.resultLabel.hidden = file.results.length < 2;
    this.range.value = 50;
    this.zoom = FIT;
    this.clip.hidden = this.handle.hidden = !original;
    this.range.disabled = !original;
    if (original) {
      this.url = URL.createObjectURL(original);
      this.before.src = this.url;
      const header = file.source ? `${file.source.width} × ${file.source.height} ${format(file.source.media_type)}` : "";
      this.beforeText.textContent = `Original: ${header}, ${bytes(file.nbytes)}`;
    } else {
      this.#withoutOriginal("The original is only in the page that has sent it.");
    }
    this.#showResult();
    this.dialog.showModal();
    (original ? this.range : this.close).focus();
  }

  #showResult() {
    const result = this.file.results.find((other) => other.key === this.result.value) ?? this.file.results[0];
    this.shown = result;
    this.after.src = resultPath(this.batchId, this.file, result);
    this.after.alt = `Result of ${this.file.name}`;
    this.before.alt = `Original of ${this.file.name}`;
    this.afterText.textContent = `Result: ${size(result)}, ${bytes(result.nbytes)}, ${saved(this.file.nbytes, result.nbytes)}`;
    this.#layout();
  }

  #withoutOriginal(reason) {
    this.clip.hidden = this.handle.hidden = true;
    this.range.disabled = true;
    this.beforeText.textContent = reason;
  }

  #end() {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
    this.before.removeAttribute("src");
    this.after.removeAttribute("src");
  }

  // Sizes of the stage in CSS pixels: "1:1" is one pixel of the result for each pixel of the screen.
  #layout() {
    if (!this.shown) return;
    const { width, height } = this.shown;
    const fitting = Math.min(this.view.clientWidth / width, this.view.clientHeight / height);
    const scale = this.zoom === FIT ? fitting : this.zoom / devicePixelRatio;
    this.stage.style.width = `${Math.max(1, Math.floor(width * scale))}px`;
    this.stage.style.height = `${Math.max(1, Math.floor(height * scale))}px`;
    this.stage.classList.toggle("pixels", this.zoom > 1);
    this.zoomText.textContent = this.zoom === FIT ? "Fit" : `${Math.round(this.zoom * 100)} %`;
    this.#place();
  }

  #place() {
    this.clip.style.clipPath = `inset(0 ${100 - this.range.value}% 0 0)`;
    this.handle.style.left = `${this.range.value}%`;
    this.range.setAttribute("aria-valuetext", `${this.range.value} % original`);
  }

  #setZoom(zoom) {
    const middle = [this.view.scrollLeft + this.view.clientWidth / 2, this.view.scrollTop + this.view.clientHeight / 2];
    const before = [this.stage.offsetWidth, this.stage.offsetHeight];
    this.zoom = zoom;
    this.#layout();
    this.view.scrollLeft = (middle[0] / before[0]) * this.stage.offsetWidth - this.view.clientWidth / 2;
    this.view.scrollTop = (middle[1] / before[1]) * this.stage.offsetHeight - this.view.clientHeight / 2;
  }

  #step(change) {
    const present = this.zoom || (this.stage.offsetWidth * devicePixelRatio) / this.shown.width;
    const next = change > 0 ? STEPS.find((step) => step > present * 1.01) : STEPS.findLast((step) => step < present * 0.99);
    if (next) this.#setZoom(next);
  }

  #key(event) {
    const zooms = { "+": () => this.#step(1), "=": () => this.#step(1), "-": () => this.#step(-1), 0: () => this.#setZoom(FIT), 1: () => this.#setZoom(1) };
    if (event.target.tagName !== "SELECT" && zooms[event.key] && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      zooms[event.key]();
    }
  }

  // The handle can always be dragged; the whole picture, too, while it fits and nothing needs to scroll.
  #followPointer() {
    const move = (event) => {
      const box = this.stage.getBoundingClientRect();
      this.range.value = Math.round(((event.clientX - box.left) / box.width) * 100);
      this.#place();
    };
    this.stage.addEventListener("pointerdown", (event) => {
      if (this.range.disabled || (event.target !== this.handle && this.zoom !== FIT)) return;
      event.preventDefault();
      this.stage.setPointerCapture(event.pointerId);
      this.stage.addEventListener("pointermove", move);
      move(event);
    });
    for (const end of ["pointerup", "pointercancel"]) this.stage.addEventListener(end, () => this.stage.removeEventListener("pointermove", move));
  }
}
