// Words and numbers for users.

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6]]) {
    if (count >= size) return `${numbers.format(count / size)} ${unit}`;
  }
  return `${numbers.format(count / 1e3)} kB`;
}

export function percent(fraction) {
  return `${Math.floor(fraction * 100 + 1e-9)} %`;
}

export function saved(before, after) {
  if (!before) return "";
  return after <= before ? `${percent(1 - after / before)} saved` : `${percent(after / before - 1)} larger`;
}

export function format(mediaType) {
  return { "image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WebP", "image/avif": "AVIF", "image/gif": "GIF", "image/tiff": "TIFF" }[mediaType] ?? mediaType;
}

export function size(result) {
  return `${result.width} × ${result.height} ${format(result.media_type)}`;
}

// One sentence for the state of a file.
export function stateOf(file, isHere) {
  switch (file.state) {
    case "expected":
      return isHere ? "Waiting for its upload" : "Not uploaded yet. If its page is closed, choose the file again.";
    case "blocked":
      return "Waiting for memory of the server";
    case "uploading":
      return `Uploading, ${percent(file.nbytes ? file.received / file.nbytes : 0)} of ${bytes(file.nbytes)}`;
    case "waiting":
      return file.waits_for === "memory" ? "Waiting for memory of the server" : "Waiting for a worker";
    case "working": {
      const left = file.eta_s === null ? "" : `, about ${Math.max(1, Math.round(file.eta_s))} s left`;
      return `Working, ${percent(file.fraction)}${left}`;
    }
    case "done":
      return done(file) + uploadOf(file.upload);
    case "failed":
      return `Failed: ${file.failure.detail} ${file.failure.advice}`;
    default:
      return "Cancelled";
  }
}

function done(file) {
  const after = file.results.reduce((sum, result) => sum + result.nbytes, 0);
  if (file.results.length === 1) {
    return `Done: ${bytes(file.nbytes)} → ${bytes(after)}, ${saved(file.nbytes, after)}. ${size(file.results[0])}`;
  }
  return `Done: ${file.results.length} results, ${bytes(after)} together`;
}

function uploadOf(upload) {
  if (!upload) return "";
  const words = { waiting: "Waiting to be stored", sending: "Being stored", stored: "Stored in " + upload.detail, failed: upload.detail };
  return `. ${words[upload.state]}`;
}

export function totals(progress) {
  if (!progress.total) return "No files yet.";
  const parts = [`${progress.done} of ${progress.total} done`];
  if (progress.failed) parts.push(`${progress.failed} failed`);
  if (progress.cancelled) parts.push(`${progress.cancelled} cancelled`);
  return parts.join(", ");
}

export function totalSaved(progress) {
  if (!progress.done) return "";
  return `${bytes(progress.source_bytes)} → ${bytes(progress.result_bytes)}, ${saved(progress.source_bytes, progress.result_bytes)}`;
}
