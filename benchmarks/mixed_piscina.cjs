// Node's pool for bench_mixed.py: a line "number kind path" comes in, a line "number bytes" goes out when it is done.
// The same file is the worker's code.
const { isMainThread } = require("node:worker_threads");
const { createRequire } = require("node:module");
const { readFile } = require("node:fs/promises");
const path = require("node:path");

const packagesOf = (folder) => createRequire(path.join(path.resolve(folder), "anything.js"));

if (isMainThread) {
  const [folder, threads] = process.argv.slice(2);
  process.env.NODE_PACKAGES = folder; // its threads get a copy
  const { Piscina } = packagesOf(folder)("piscina");
  const count = Number(threads);
  const pool = new Piscina({ filename: __filename, minThreads: count, maxThreads: count });
  const lines = require("node:readline").createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const [number, kind, file] = line.split(" ");
    const made = await pool.run({ kind, file });
    process.stdout.write(`${number} ${made.length}\n`);
  });
  lines.on("close", () => pool.destroy());
} else {
  const sharp = packagesOf(process.env.NODE_PACKAGES)("sharp");
  sharp.cache(false);
  sharp.concurrency(1);
  module.exports = async ({ kind, file }) => {
    const picture = sharp(await readFile(file), { limitInputPixels: 200_000_000 });
    if (kind === "small") return picture.resize(200).webp().toBuffer();
    return picture.rotate(90).blur().jpeg({ quality: 80 }).toBuffer();
  };
}
