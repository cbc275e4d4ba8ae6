// Runs sharp for bench_sharp.py and compare_pictures.py: one request per line on stdin, one answer per line on stdout.
const { createRequire } = require("module");
const path = require("path");
const fs = require("fs");
const sharp = createRequire(path.resolve(process.argv[2], "package.json"))("sharp");
sharp.cache(false);

function apply(image, steps) {
  for (const [method, ...values] of steps) {
    image = image[method](...values);
  }
  return image;
}

async function edit({ source, steps, target }) {
  const image = apply(sharp(source), steps);
  if (target.endsWith(".raw")) {
    const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
    fs.writeFileSync(target, data);
    return { width: info.width, height: info.height, bands: info.channels };
  }
  const data = await image.toBuffer();
  fs.writeFileSync(target, data);
  return { nbytes: data.length };
}

async function measure({ source, steps, count, inFlight, threads }) {
  sharp.concurrency(threads);
  const bytes = fs.readFileSync(source);
  const before = process.cpuUsage();
  const started = process.hrtime.bigint();
  let left = count;
  async function lane() {
    while (left > 0) {
      left -= 1;
      await apply(sharp(bytes), steps).toBuffer();
    }
  }
  await Promise.all(Array.from({ length: inFlight }, lane));
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  const { user, system } = process.cpuUsage(before);
  return { seconds, cpu: (user + system) / 1e6 };
}

const lines = require("readline").createInterface({ input: process.stdin });
let queue = Promise.resolve();
lines.on("line", (line) => {
  const request = JSON.parse(line);
  queue = queue
    .then(() => (request.count ? measure(request) : edit(request)))
    .catch((error) => ({ error: String(error) }))
    .then((answer) => process.stdout.write(JSON.stringify({ ...answer, version: sharp.versions.sharp }) + "\n"));
});
