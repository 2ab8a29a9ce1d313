// What the adapters for Node have in common: the command line of adapter.py, and the tally.
import { openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

export const url = process.env.BENCH_DATABASE_URL;
const now = () => process.hrtime.bigint(); // the clock of Python's time.monotonic_ns()

// Packages are installed in a folder of the peer's own, not beside this file.
export function load(name) {
  const require = createRequire(join(process.env.BENCH_PEER_FOLDER, "index.js"));
  return import(pathToFileURL(require.resolve(name)).href);
}

// Node maps no files: counts are kept here and what changed is written every 10 ms and at the end.
let tally;

function openTally() {
  const jobs = Number(process.env.BENCH_JOBS);
  const padded = Math.ceil(jobs / 8) * 8;
  const memory = new ArrayBuffer(padded + 8 * jobs);
  tally = {
    jobs, padded, low: jobs, high: -1,
    bytes: Buffer.from(memory),
    counts: new Uint8Array(memory, 0, jobs),
    stamps: new BigUint64Array(memory, padded, jobs),
    file: openSync(process.env.BENCH_TALLY, "r+"),
  };
  setInterval(flush, 10).unref();
  process.on("exit", flush);
}

function flush() {
  const { low, high, padded, bytes, file } = tally;
  if (low > high) return;
  writeSync(file, bytes, padded + 8 * low, 8 * (high - low + 1), padded + 8 * low);
  writeSync(file, bytes, low, high - low + 1, low);
  tally.low = tally.jobs;
  tally.high = -1;
}

export function hit(number) {
  const at = now();
  if (tally === undefined) openTally();
  tally.counts[number]++;
  tally.stamps[number] = at;
  if (number < tally.low) tally.low = number;
  if (number > tally.high) tally.high = number;
}

export function* chunks(count, size = 1000) {
  for (let first = 0; first < count; first += size) {
    yield Array.from({ length: Math.min(size, count - first) }, (_, k) => first + k);
  }
}

export async function main(queue) {
  const [operation, ...rest] = process.argv.slice(2);
  const options = { jobs: "0", setting: "10", every: "0.02" };
  for (let k = 0; k < rest.length; k += 2) options[rest[k].slice(2)] = rest[k + 1];
  const jobs = Number(options.jobs);
  if (operation === "setup") { await queue.setup(options); process.exit(0); }
  if (operation === "worker") return queue.worker(options);
  await queue.open(options);
  const start = now();
  const cpu = process.cpuUsage();
  const sent = [];
  if (operation === "one") {
    for (let number = 0; number < jobs; number++) await queue.one(number);
  } else if (operation === "bulk") {
    await queue.bulk(jobs);
  } else {
    const every = BigInt(Math.round(Number(options.every) * 1e9));
    for (let number = 0; number < jobs; number++) {
      const pause = Number(start + BigInt(number) * every - now()) / 1e6;
      if (pause > 0) await sleep(pause);
      sent.push(String(now()));
      await queue.one(number);
    }
  }
  const seconds = Number(now() - start) / 1e9;
  const used = process.cpuUsage(cpu);
  await queue.close();
  console.log(JSON.stringify({ seconds, cpu: (used.user + used.system) / 1e6, sent }));
  process.exit(0);
}
