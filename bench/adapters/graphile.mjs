// `setting` is concurrentJobs:localQueue.size. Ended jobs are always deleted.
import { chunks, hit, load, main, url } from "./adapter.mjs";

const { Logger, WorkerPreset, makeWorkerUtils, run, runMigrations } = await load("graphile-worker");

function options(setting) {
  const [concurrentJobs, size] = setting.split(":").map(Number);
  return {
    preset: {
      extends: [WorkerPreset],
      worker: {
        connectionString: url,
        concurrentJobs,
        maxPoolSize: 20,
        pollInterval: 2000,
        logger: new Logger(() => () => {}),
        localQueue: { size },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
  };
}

let utils;
await main({
  async setup() { await runMigrations(options("1:1")); },
  async open() { utils = await makeWorkerUtils(options("1:1")); },
  async close() { await utils.release(); },
  async one(number) { await utils.addJob("job", { i: number }); },
  async bulk(jobs) {
    for (const part of chunks(jobs)) await utils.addJobs(part.map((i) => ({ identifier: "job", payload: { i } })));
  },
  async worker({ setting }) {
    const runner = await run({ ...options(setting), taskList: { job: async ({ i }) => hit(i) } });
    await runner.promise;
  },
});
