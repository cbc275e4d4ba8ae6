// Tells screen readers the sums, politely: at most every two seconds, and only what has changed.

const PAUSE_MS = 2000;

export class Announcer {
  constructor(element) {
    this.element = element;
    this.said = "";
  }

  say(text) {
    this.next = text;
    if (!this.timer) this.#speak();
  }

  #speak() {
    this.timer = null;
    if (this.next === this.said) return;
    this.said = this.element.textContent = this.next;
    this.timer = setTimeout(() => this.#speak(), PAUSE_MS);
  }
}
