// One turn of a contender of Node, for the suite: reads its job, says "warm", waits for a line, and answers with its figures.
// The same file is the code of the threads.
const { isMainThread, Worker, workerData, parentPort } = require("node:worker_threads");
const { createRequire } = require("node:module");
const { monitorEventLoopDelay } = require("node:perf_hooks");
const fs = require("node:fs");
const path = require("node:path");

const packagesOf = (folder) => createRequire(path.join(path.resolve(folder), "anything.js"));

const EDITS = {
  resize: (image) => image.resize(2000, 1500),
  blur: (image) => image.blur(3),
  grayscale: (image) => image.grayscale(),
  sharpen: (image) => image.sharpen(),
  rotate: (image) => image.rotate(90),
  tint: (image) => image.tint("#ff8040"),
};

function sharpOf(folder, threads) {
  const sharp = packagesOf(folder)("sharp");
  sharp.cache(false);
  sharp.concurrency(threads);
  return sharp;
}

async function edit(sharp, { name, source, target }) {
  await EDITS[name](sharp(source)).png().toFile(target);
}

function tasksOf(job) {
  return job.sources.flatMap((source, number) =>
    job.edits.map((name) => ({ name, source, target: path.join(job.folder, `made-${number}-${name}.png`) })),
  );
}

// contenders of "article"

function onThread(folder, task) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: { folder, task } });
    worker.once("error", reject);
    worker.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`exit ${code}`))));
  });
}

function articleOf(job) {
  const folder = job.node_packages;
  const sharp = sharpOf(folder, 1);
  if (job.contender === "sharp, one after another") {
    return { run: async (tasks) => { for (const task of tasks) await edit(sharp, task); }, close: () => {} };
  }
  if (job.contender === "sharp, all at once") {
    return { run: (tasks) => Promise.all(tasks.map((task) => edit(sharp, task))), close: () => {} };
  }
  if (job.contender === "sharp, a thread for each task") {
    return { run: (tasks) => Promise.all(tasks.map((task) => onThread(folder, task))), close: () => {} };
  }
  const pool = poolOf(job);
  return { run: (tasks) => Promise.all(tasks.map((task) => pool.run({ edit: task }))), close: () => pool.destroy() };
}

async function article(job, go) {
  const { run, close } = articleOf(job);
  const warm = Array.from({ length: 2 * job.workers }, (_, number) => ({
    name: "resize", source: job.small, target: path.join(job.folder, `made-${number}-resize.png`),
  }));
  await run(warm);
  await go();
  const delay = monitorEventLoopDelay({ resolution: 2 });
  delay.enable();
  const started = process.hrtime.bigint();
  const tasks = tasksOf(job);
  await run(tasks);
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  delay.disable();
  let written = 0;
  for (const { name, target } of tasks) {
    const start = fs.readFileSync(target);
    const [width, height] = [start.readUInt32BE(16), start.readUInt32BE(20)];
    const expected = { resize: [2000, 1500], rotate: [job.height, job.width] }[name] ?? [job.width, job.height];
    if (width !== expected[0] || height !== expected[1]) throw new Error(`${target}: ${width} x ${height}`);
    written += start.length;
    fs.unlinkSync(target);
  }
  close();
  return { seconds, written_bytes: written, lag_p99_ms: Math.max(delay.percentile(99) / 1e6 - 2, 0) };
}

// the contender of "pictures"

async function psnr(sharp, result, reference, size) {
  const [found, expected] = await Promise.all(
    [result, reference].map((picture) => sharp(picture).raw().toBuffer({ resolveWithObject: true })),
  );
  const { width, height, channels } = found.info;
  if (width !== size[0] || height !== size[1] || channels !== expected.info.channels) throw new Error(`${width} x ${height}`);
  let error = 0;
  for (let at = 0; at < found.data.length; at += channels) {
    for (let band = 0; band < channels; band++) {
      const weighted = ({ data }) => (channels === 4 && band < 3 ? (data[at + band] * data[at + 3]) / 255 : data[at + band]);
      error += (weighted(found) - weighted(expected)) ** 2;
    }
  }
  return error ? 10 * Math.log10(255 ** 2 / (error / found.data.length)) : 99;
}

async function pictures(job, go) {
  const sharp = sharpOf(job.node_packages, 1);
  const results = {};
  async function reduce(task, source) {
    let image = sharp(source);
    for (const [method, ...values] of task.steps) image = image[method](...values);
    const result = await image.toBuffer();
    results[task.name] = results[task.name] ?? result;
    if (!result.equals(results[task.name])) throw new Error(`${task.name}: another result`);
  }
  async function many(task, source, count, inFlight) {
    let left = count;
    const lane = async () => { while (left-- > 0) await reduce(task, source); };
    await Promise.all(Array.from({ length: inFlight }, lane));
  }
  const sources = job.tasks.map((task) => fs.readFileSync(path.join(job.folder, task.source)));
  for (const [number, task] of job.tasks.entries()) await many(task, sources[number], 2 * job.workers, job.workers);
  const figures = { psnr_db: 99 };
  for (const task of job.tasks) {
    const quality = await psnr(sharp, results[task.name], path.join(job.folder, task.reference), task.size);
    if (quality < task.least_psnr) throw new Error(`${task.name}: ${quality} dB`);
    figures.psnr_db = Math.min(figures.psnr_db, quality);
  }
  await go();
  for (const [number, task] of job.tasks.entries()) {
    const before = process.cpuUsage();
    for (const inFlight of [1, job.workers]) {
      const started = process.hrtime.bigint();
      await many(task, sources[number], job.count, inFlight);
      figures[`${task.name}_${inFlight}_ms`] = Number(process.hrtime.bigint() - started) / 1e6 / job.count;
    }
    const { user, system } = process.cpuUsage(before);
    figures[`${task.name}_cpu_ms`] = (user + system) / 1e3 / (2 * job.count);
  }
  return { ...figures, lag_p99_ms: 0 };
}

// contenders of "calls" and "payload"

function poolOf(job) {
  const { Piscina } = packagesOf(job.node_packages)("piscina");
  process.env.NODE_PACKAGES = job.node_packages; // its threads get a copy
  return new Piscina({ filename: __filename, minThreads: job.workers, maxThreads: job.workers });
}

function percentile(values, percent) {
  return values.sort((one, other) => one - other)[Math.floor((values.length - 1) * percent)];
}

async function calls(job, go) {
  const pool = poolOf(job);
  async function many(count) {
    let next = 0;
    async function lane() {
      while (next < count) {
        const number = next++;
        if ((await pool.run({ same: number })) !== number) throw new Error("a wrong answer");
      }
    }
    await Promise.all(Array.from({ length: job.in_flight }, lane));
  }
  await many(job.in_flight);
  await go();
  const taken = [];
  for (let number = 0; number < job.single; number++) {
    const started = process.hrtime.bigint();
    if ((await pool.run({ same: number })) !== number) throw new Error("a wrong answer");
    taken.push(Number(process.hrtime.bigint() - started) / 1e3);
  }
  const delay = monitorEventLoopDelay({ resolution: 2 });
  delay.enable();
  const started = process.hrtime.bigint();
  await many(job.many);
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  delay.disable();
  await pool.destroy();
  return {
    p50_us: percentile(taken, 0.5),
    p99_us: percentile(taken, 0.99),
    calls_per_s: job.many / seconds,
    lag_p99_ms: Math.max(delay.percentile(99) / 1e6 - 2, 0),
  };
}

async function payload(job, go) {
  const pool = poolOf(job);
  async function thereAndBack(data) {
    const started = process.hrtime.bigint();
    const copy = Uint8Array.from(data); // the caller keeps its bytes, as those of the other pools do
    const back = await pool.run({ bytes: copy.buffer }, { transferList: [copy.buffer] });
    const taken = Number(process.hrtime.bigint() - started) / 1e3;
    if (back.byteLength !== data.length) throw new Error("wrong bytes");
    return taken;
  }
  for (let count = 0; count < 4; count++) await thereAndBack(new Uint8Array(1024 * 1024));
  await go();
  const figures = {};
  for (const size of job.sizes) {
    const data = new Uint8Array(size).fill(7);
    await thereAndBack(data);
    const taken = [];
    for (let count = 0; count < job.repetitions; count++) taken.push(await thereAndBack(data));
    figures[`us_${size}`] = percentile(taken, 0.5);
  }
  await pool.destroy();
  return { ...figures, lag_p99_ms: 0 };
}

if (!isMainThread && workerData && workerData.task) {
  edit(sharpOf(workerData.folder, 1), workerData.task);
} else if (!isMainThread) {
  let sharp;
  module.exports = async (asked) => {
    if ("same" in asked) return asked.same;
    if ("bytes" in asked) {
      const { Piscina } = packagesOf(process.env.NODE_PACKAGES)("piscina");
      return Piscina.move(asked.bytes);
    }
    sharp = sharp ?? sharpOf(process.env.NODE_PACKAGES, 1);
    return edit(sharp, asked.edit);
  };
} else {
  const lines = require("node:readline").createInterface({ input: process.stdin });
  const waiting = [];
  const received = [];
  lines.on("line", (line) => (waiting.length ? waiting.shift()(line) : received.push(line)));
  const next = () => (received.length ? Promise.resolve(received.shift()) : new Promise((resolve) => waiting.push(resolve)));
  const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");
  (async () => {
    const job = JSON.parse(await next());
    const go = async () => { tell("warm"); await next(); };
    tell(await { article, calls, payload, pictures }[job.question](job, go));
    lines.close();
  })().catch((error) => { console.error(error); process.exit(1); });
}
