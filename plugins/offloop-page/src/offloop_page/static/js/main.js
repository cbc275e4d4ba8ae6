// The page: connects files, settings, uploads, the batch and the rows.

import * as api from "./api.js";
import { Announcer } from "./announcer.js";
import { Batch } from "./batch.js";
import { Compare } from "./compare.js";
import { filesOfClipboard, filesOfDrop, filesOfInput } from "./dropped_files.js";
import { FileRow } from "./file_row.js";
import { SettingsForm } from "./settings_form.js";
import { Uploads } from "./uploads.js";
import * as words from "./words.js";

const DRAWING_MS = 8; // of each frame, so that the page answers in time
const NAMES_PER_CALL = 100;

const find = (id) => document.getElementById(id);
const list = find("files");
const rows = new Map();
const changed = new Set();
const announcer = new Announcer(find("announcer"));
const compare = new Compare();
const form = new SettingsForm(find("settings"), settingsChanged);
const uploads = new Uploads(refused);

let capabilities = null;
let batch = null;
let creation = null; // promise of the batch that is being created
let isDrawing = false;
let again = null; // key of the file that is chosen again

// ---- the batch

function batchIdOfAddress() {
  return new URLSearchParams(location.hash.slice(1)).get("batch");
}

function use(id) {
  batch?.close();
  rows.clear();
  changed.clear();
  list.replaceChildren();
  batch = id ? new Batch(id) : null;
  uploads.use(batch);
  message("");
  if (batch) {
    const mine = batch;
    batch.addEventListener("change", (event) => mine === batch && batchChanged(event.detail));
    batch.addEventListener("connection", () => mine === batch && connectionChanged());
    batch.addEventListener("dropped", () => mine === batch && dropped());
    batch.connect();
  }
  drawTotals();
  connectionChanged();
}

async function ensureBatch() {
  if (batch && !batch.isDropped) return;
  creation ??= api.createBatch(form.conversion()).finally(() => (creation = null));
  const { id } = await creation;
  if (batchIdOfAddress() === id) return;
  history.pushState(null, "", `#batch=${id}`);
  use(id);
}

function batchChanged(keys) {
  for (const key of keys) changed.add(key);
  schedule();
}

function dropped() {
  message("This batch was dropped, because nothing changed for a time or it was deleted. Start a new one.");
  connectionChanged();
  drawTotals();
}

async function settingsChanged() {
  if (!batch || batch.isDropped) return;
  await tried(() => api.changeBatch(batch.id, form.conversion()));
  find("convert-again").hidden = !endedHere().length;
}

const endedHere = () => [...(batch?.files.values() ?? [])].filter((file) => ["done", "failed", "cancelled"].includes(file.state) && uploads.has(file.key));

// ---- files

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function add({ chosen, leftOut }) {
  await tried(async () => {
    if (chosen.length) await ensureBatch();
    message(leftOut ? `${leftOut} ${leftOut === 1 ? "file is no picture and was" : "files are no pictures and were"} left out.` : "");
    if (!chosen.length) return;
    const present = missingByName();
    for (let start = 0; start < chosen.length; start += NAMES_PER_CALL) {
      // the size of a file is a call to another process, so it is asked once, and for a part of the files in one task
      const part = chosen.slice(start, start + NAMES_PER_CALL).map(({ file, name }) => ({ file, name, nbytes: file.size, key: null }));
      for (const item of part) item.key = present.get(`${item.name}/${item.nbytes}`) ?? newKey();
      await api.announce(batch.id, part.map(({ key, name, nbytes }) => ({ key, name, nbytes })));
      for (const { file, key } of part) uploads.add(key, file);
    }
  });
  schedule();
}

// Files of the batch whose upload another page began, or this one before a reload: the same file continues in its row.
function missingByName() {
  const missing = [...batch.files.values()].filter((file) => file.state !== "done" && !uploads.has(file.key));
  return new Map(missing.map((file) => [`${file.name}/${file.nbytes}`, file.key]));
}

function refused(key, error) {
  const row = rows.get(key);
  if (row) row.refuse(error.message);
  else message(error.message);
}

function retry(key) {
  if (uploads.send(key)) return;
  again = key;
  find("again-input").click();
}

async function cancel(key) {
  uploads.cancel(key);
  await tried(() => api.cancelFile(batch.id, key), ["ended"]);
}

function openCompare(key) {
  compare.open(batch.id, batch.files.get(key), uploads.files.get(key) ?? null);
}

// ---- drawing

function schedule() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(draw);
}

function draw() {
  const begun = performance.now();
  for (const key of changed) {
    changed.delete(key);
    drawRow(key);
    if (performance.now() - begun > DRAWING_MS) break;
  }
  drawTotals();
  isDrawing = false;
  if (changed.size) schedule();
}

function drawRow(key) {
  let row = rows.get(key);
  if (!row) {
    row = new FileRow();
    rows.set(key, row);
    list.append(row);
  }
  row.show(batch.id, batch.files.get(key), uploads.has(key));
}

function drawTotals() {
  const progress = batch?.progress ?? { total: 0, done: 0, failed: 0, cancelled: 0, fraction: 0 };
  const text = words.totals(progress);
  find("totals-text").textContent = [text, words.totalSaved(progress)].filter(Boolean).join(" · ");
  find("totals-bar").value = progress.fraction;
  if (progress.total) announcer.say(text);
  document.title = progress.total && progress.fraction < 1 ? `${words.percent(progress.fraction)} · Pictures · offloop` : "Pictures · offloop";
  const isLive = batch && !batch.isDropped;
  const ended = progress.done + progress.failed + progress.cancelled;
  setLink(find("download-all"), isLive && progress.done ? api.archivePath(batch.id) : null);
  find("upload-all").hidden = !capabilities?.storage;
  find("upload-all").disabled = !isLive || !progress.done;
  find("retry-failed").disabled = !isLive || !progress.failed || ![...batch.files.values()].some((file) => file.failure?.can_retry);
  find("cancel-all").disabled = !isLive || ended === progress.total;
  find("new-batch").disabled = !batch;
}

function setLink(link, path) {
  link.toggleAttribute("aria-disabled", !path);
  if (path) {
    link.href = path;
    link.removeAttribute("aria-disabled");
  } else {
    link.removeAttribute("href");
    link.setAttribute("aria-disabled", "true");
  }
}

function connectionChanged() {
  const [state, text] = !batch || batch.isDropped ? ["idle", "Ready"] : batch.isConnected ? ["on", "Connected"] : ["off", "Connecting…"];
  find("connection").dataset.state = state;
  find("connection-text").textContent = text;
  if (state === "on") uploads.resume();
}

function message(text) {
  find("message").textContent = text;
  find("message").hidden = !text;
}

async function tried(action, expected = []) {
  try {
    return await action();
  } catch (error) {
    if (!expected.includes(error.code)) message(error instanceof TypeError ? "The server cannot be reached. Try again when it is back." : error.message);
    return null;
  }
}

// ---- controls

function connectInputs() {
  find("choose-files").addEventListener("click", () => find("files-input").click());
  find("choose-folder").addEventListener("click", () => find("folder-input").click());
  for (const id of ["files-input", "folder-input"]) {
    find(id).addEventListener("change", (event) => {
      add(filesOfInput(event.target));
      event.target.value = "";
    });
  }
  find("again-input").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file && again) uploads.add(again, file);
    event.target.value = "";
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) add(filesOfClipboard(event.clipboardData));
  });
}

function connectDrop() {
  const zone = find("drop");
  let depth = 0; // of nested elements that the pointer has entered
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle("over", depth > 0);
  };
  document.addEventListener("dragenter", (event) => hasFiles(event) && mark(1));
  document.addEventListener("dragleave", (event) => hasFiles(event) && mark(-1));
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    mark(0);
    add(await filesOfDrop(event.dataTransfer));
  });
}

function connectActions() {
  list.addEventListener("retry", (event) => retry(event.detail));
  list.addEventListener("cancel", (event) => cancel(event.detail));
  list.addEventListener("compare", (event) => openCompare(event.detail));
  find("cancel-all").addEventListener("click", () => {
    uploads.cancelAll();
    tried(() => api.cancelAll(batch.id));
  });
  find("retry-failed").addEventListener("click", () => {
    const failed = [...batch.files.values()].filter((file) => file.state === "failed" && file.failure.can_retry);
    const missing = failed.filter((file) => !uploads.send(file.key)).length;
    if (missing) message(`${missing} of the failed files were sent by another page. Choose them again.`);
  });
  find("upload-all").addEventListener("click", () => tried(() => api.uploadAll(batch.id)));
  find("new-batch").addEventListener("click", () => {
    history.pushState(null, "", location.pathname);
    use(null);
  });
  find("convert-again").addEventListener("click", () => {
    for (const file of endedHere()) uploads.send(file.key);
    find("convert-again").hidden = true;
  });
  addEventListener("popstate", () => batchIdOfAddress() !== (batch?.id ?? null) && use(batchIdOfAddress()));
  addEventListener("online", () => uploads.resume());
}

async function start() {
  connectInputs();
  connectDrop();
  connectActions();
  await tried(api.takeToken);
  capabilities = await tried(api.capabilities);
  if (capabilities) {
    form.allow(capabilities);
    find("live-link").hidden = !capabilities.live;
    const { max_file_bytes: largest, max_files: most } = capabilities.limits;
    find("drop-limits").textContent = `JPEG, PNG, WebP, AVIF, GIF and TIFF, up to ${words.bytes(largest)} each and ${most.toLocaleString("en")} files.`;
  }
  use(batchIdOfAddress());
}

start();
