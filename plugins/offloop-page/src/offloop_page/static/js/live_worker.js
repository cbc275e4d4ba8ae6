// Receives frames and draws them on an OffscreenCanvas. The page itself never touches a frame.

const AHEAD = 2; // frames on their way while one is drawn
const TOLD_EVERY_MS = 250;

let context = null;
let socket = null;
let shown = 0;
let numbers = null;
let shownTime = 0; // seconds of music of the frame that is shown
let times = [];

onmessage = ({ data }) => {
  if (data.canvas) context = data.canvas.getContext("2d", { alpha: false });
  socket?.close();
  socket = null;
  if (data.url) open(data.url);
};

function open(url) {
  const mine = (socket = new WebSocket(url));
  mine.binaryType = "blob";
  shown = 0;
  times = [];
  let received = 0;
  mine.onopen = () => mine.send(String(AHEAD));
  mine.onmessage = ({ data }) => {
    if (mine !== socket) return;
    if (typeof data === "string") numbers = JSON.parse(data);
    else draw(mine, data, numbers, ++received);
  };
  mine.onclose = ({ code, reason }) => mine === socket && postMessage({ closed: true, code, reason });
}

async function draw(mine, blob, { time_s: time }, received) {
  const bitmap = await createImageBitmap(blob);
  if (mine !== socket) return;
  const { canvas } = context;
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  shown += 1;
  if (shown === 1) postMessage({ first: true });
  times.push(performance.now());
  shownTime = time;
  if (mine.readyState === WebSocket.OPEN) mine.send(String(received + AHEAD));
}

setInterval(() => {
  if (!socket || !numbers) return;
  const since = performance.now() - 1000;
  times = times.filter((time) => time > since);
  postMessage({ ...numbers, shown, shown_s: shownTime, fps: times.length });
}, TOLD_EVERY_MS);
