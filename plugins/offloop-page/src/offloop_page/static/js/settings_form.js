// The settings of a batch, read from the form.

const KEPT = "offloop-page-settings";

export class SettingsForm {
  constructor(form, onChange) {
    this.form = form;
    this.error = document.getElementById("widths-error");
    this.fields = form.elements;
    this.#restore();
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", () => {
      if (this.#check()) {
        localStorage.setItem(KEPT, JSON.stringify(this.conversion()));
        onChange();
      }
    });
  }

  allow({ formats, remove_background: canRemoveBackground }) {
    for (const option of this.fields.format.options) option.disabled = !formats.includes(option.value);
    document.getElementById("background-label").hidden = !canRemoveBackground;
    if (!canRemoveBackground) this.fields.remove_background.checked = false;
  }

  conversion() {
    const number = (name) => (this.fields[name].value ? Number(this.fields[name].value) : null);
    return {
      format: this.fields.format.value,
      quality: number("quality"),
      max_bytes: this.fields.max_bytes.value ? Math.max(1, Math.round(number("max_bytes") * 1000)) : null,
      widths: this.#widths(),
      height: number("height"),
      fit: this.fields.fit.value,
      remove_background: this.fields.remove_background.checked,
      metadata: this.fields.remove_background.checked ? "strip" : this.fields.metadata.value, // a cut-out has none
    };
  }

  show(conversion) {
    for (const name of ["format", "quality", "height", "fit"]) this.fields[name].value = conversion[name] ?? "";
    this.fields.max_bytes.value = conversion.max_bytes ? conversion.max_bytes / 1000 : "";
    this.fields.widths.value = conversion.widths.join(", ");
    this.fields.remove_background.checked = conversion.remove_background;
    this.fields.metadata.value = conversion.metadata ?? "strip";
  }

  #widths() {
    return this.fields.widths.value.split(/[\s,;]+/).filter(Boolean).map(Number);
  }

  #check() {
    const widths = this.#widths();
    const isRight = widths.length <= 8 && new Set(widths).size === widths.length && widths.every((width) => Number.isInteger(width) && width >= 1 && width <= 16384);
    this.error.hidden = isRight;
    this.error.textContent = isRight ? "" : "Widths: up to eight different whole numbers from 1 to 16384, with commas between them.";
    this.fields.widths.setAttribute("aria-invalid", String(!isRight));
    return isRight && this.form.checkValidity();
  }

  #restore() {
    try {
      this.show(JSON.parse(localStorage.getItem(KEPT)) ?? this.conversion());
    } catch {
      localStorage.removeItem(KEPT); // of another version of this page
    }
  }
}
