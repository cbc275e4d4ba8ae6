// sharp for bench_renditions.py: a line "way set path" comes in, and a line "done" goes out when all renditions are in memory.
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const path = require("node:path");

const sharp = createRequire(path.join(path.resolve(process.argv[2]), "anything.js"))("sharp");
sharp.cache(false);
sharp.concurrency(1);

const thumbnail = (picture) => picture.resize(800);
const SETS = {
  widths: [160, 320, 640, 960, 1280, 1920].map((width) => (picture) => picture.resize(width).webp()),
  article: [
    (picture) => thumbnail(picture).jpeg(),
    (picture) => thumbnail(picture).blur(5).jpeg(),
    (picture) => thumbnail(picture).grayscale().jpeg(),
    (picture) => thumbnail(picture).sharpen().jpeg(),
    (picture) => thumbnail(picture).rotate(90).jpeg(),
    (picture) => thumbnail(picture).tint("#ff8800").jpeg(),
  ],
};
const sources = new Map();

const lines = require("node:readline").createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const [way, set, file] = line.split(" ");
  if (!sources.has(file)) sources.set(file, readFileSync(file));
  const shared = sharp(sources.get(file));
  const begin = () => (way === "clone" ? shared.clone() : sharp(sources.get(file)));
  await Promise.all(SETS[set].map((pipeline) => pipeline(begin()).toBuffer()));
  process.stdout.write("done\n");
});
