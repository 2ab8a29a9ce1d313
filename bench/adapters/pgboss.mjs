// `setting` is localConcurrency:batchSize; one call of the handler takes a whole batch. Ended jobs stay.
import { chunks, hit, load, main, url } from "./adapter.mjs";

const { PgBoss } = await load("pg-boss");
const seconds = 0.5;

let boss;
async function start(more = {}) {
  boss = new PgBoss({ connectionString: url, max: 20, useListenNotify: true, ...more });
  boss.on("error", (error) => console.error("pg-boss error", error.message));
  await boss.start();
}

await main({
  async setup() {
    await start();
    await boss.createQueue("job", { notify: true });
    await boss.stop({ graceful: false });
  },
  async open() { await start({ supervise: false, schedule: false }); },
  async close() { await boss.stop({ graceful: false }); },
  async one(number) { await boss.send("job", { i: number }); },
  async bulk(jobs) {
    for (const part of chunks(jobs)) await boss.insert("job", part.map((i) => ({ data: { i } })));
  },
  async worker({ setting }) {
    const [localConcurrency, batchSize] = setting.split(":").map(Number);
    await start();
    const polling = { pollingIntervalSeconds: seconds, notifyPollingIntervalSeconds: seconds };
    await boss.work("job", { localConcurrency, batchSize, burstWhenBatchFull: true, ...polling }, async (jobs) => {
      for (const job of jobs) hit(job.data.i);
    });
    for (const signal of ["SIGTERM", "SIGINT"]) {
      process.on(signal, async () => {
        await boss.stop({ graceful: true, timeout: 3000 });
        process.exit(0);
      });
    }
  },
});
