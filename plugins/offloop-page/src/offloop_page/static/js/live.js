// The live page: the player of the music starts and stops the frames, which a worker draws.

import * as api from "./api.js";
import { percent } from "./words.js";

const ASKED_EVERY_MS = 400;
const LAG_EVERY_MS = 20;
const LAGS_KEPT = 50;

const find = (id) => document.getElementById(id);
const sound = find("sound");
const worker = new Worker("js/live_worker.js", { type: "module" });
let track = null;
let phase = "stopped"; // then "starting", until the first frame is shown; "ready", until the sound plays; "playing"
let lags = [];

// ---- music and frames

async function choose() {
  const [file] = find("track").files;
  if (!file) return;
  stop();
  say("");
  connection("off", "Sending…");
  try {
    track = await api.sendTrack(file);
  } catch (error) {
    track = null;
    say(error.message);
  }
  connection(track ? "on" : "idle", track ? "Ready to play" : "Ready");
  find("export").disabled = !track;
  if (sound.src) URL.revokeObjectURL(sound.src);
  sound.src = track ? URL.createObjectURL(file) : "";
}

function picture() {
  const [width, height] = find("size").value.split("x").map(Number);
  return { width, height, fps: Number(find("fps").value), palette: find("palette").value };
}

// The sound waits for the first frame, so that both begin together.
function play() {
  if (!track) return;
  if (phase === "ready") {
    phase = "playing";
    return;
  }
  phase = "starting";
  sound.pause();
  const query = new URLSearchParams({ ...picture(), start_s: sound.currentTime });
  const url = new URL(`${api.framesPath(track.id)}?${query}`, document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  worker.postMessage({ url: url.href });
  connection("on", "Playing");
}

function stop() {
  phase = "stopped";
  worker.postMessage({});
  connection(track ? "on" : "idle", track ? "Ready to play" : "Ready");
}

worker.addEventListener("message", ({ data }) => {
  if (data.first) {
    if (phase !== "starting") return;
    phase = "ready";
    sound.play();
    return;
  }
  if (data.closed) {
    if (data.code !== 1000) say(data.reason || "The frames have ended, because the connection was lost. Press play again.");
    stop();
    return;
  }
  find("shown-fps").textContent = data.fps;
  find("shown").textContent = data.shown;
  find("dropped").textContent = data.dropped;
  find("beats").textContent = data.tempo_bpm ? `${data.beat} (${Math.round(data.tempo_bpm)} a minute)` : data.beat;
  find("server-lag").textContent = `${data.loop_lag_ms.toFixed(1)} ms`;
  find("page-lag").textContent = `${Math.max(0, ...lags).toFixed(1)} ms`;
  find("behind").textContent = `${Math.max(0, Math.round((sound.currentTime - data.shown_s) * 1000))} ms`;
});

// How late the timers of this page are: the largest delay of the last second.
function measureLag(due) {
  lags.push(performance.now() - due);
  if (lags.length > LAGS_KEPT) lags.shift();
  const next = performance.now() + LAG_EVERY_MS;
  setTimeout(() => measureLag(next), LAG_EVERY_MS);
}

// ---- export

async function startExport() {
  try {
    await api.startVideo(track.id, picture());
    setExport({ state: "working", fraction: 0 });
    await followExport(track);
  } catch (error) {
    say(error.message);
  }
}

async function followExport(mine) {
  for (;;) {
    const video = await api.readVideo(mine.id);
    if (mine !== track) return;
    setExport(video);
    if (video.state !== "working") return;
    await new Promise((resolve) => setTimeout(resolve, ASKED_EVERY_MS));
  }
}

function setExport({ state, fraction, failure }) {
  const link = find("export-link");
  find("export").disabled = state === "working";
  find("export-cancel").disabled = state !== "working";
  find("export-bar").value = fraction;
  const words = { working: "Working", done: "The video is done.", failed: `Failed: ${failure?.detail} ${failure?.advice}`, cancelled: "Cancelled." };
  find("export-text").textContent = words[state];
  find("export-bar").setAttribute("aria-valuetext", percent(fraction));
  if (state === "done") {
    link.href = api.videoPath(track.id);
    link.removeAttribute("aria-disabled");
  } else {
    link.removeAttribute("href");
    link.setAttribute("aria-disabled", "true");
  }
}

// ---- words

function say(text) {
  find("message").textContent = text;
  find("message").hidden = !text;
}

function connection(state, text) {
  find("connection").dataset.state = state;
  find("connection-text").textContent = text;
}

async function start() {
  const canvas = find("screen").transferControlToOffscreen();
  worker.postMessage({ canvas }, [canvas]);
  measureLag(performance.now());
  for (const id of ["size", "fps", "palette"]) find(id).addEventListener("change", () => phase === "playing" && play());
  sound.addEventListener("play", play);
  sound.addEventListener("seeked", () => phase === "playing" && play());
  sound.addEventListener("pause", () => phase === "playing" && stop());
  find("export").addEventListener("click", startExport);
  find("export-cancel").addEventListener("click", () => api.cancelVideo(track.id).then(setExport, (error) => say(error.message)));
  try {
    await api.takeToken();
    const { live } = await api.capabilities();
    if (!live) say("This server has no live page, because offloop-visualizer is not installed.");
  } catch (error) {
    say(error.message);
  }
  find("track").addEventListener("change", choose);
  choose(); // a file that was chosen before this script ran
}

start();
