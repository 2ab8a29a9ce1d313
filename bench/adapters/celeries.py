"""`setting` is pool:size. Kept stores results; jobs are acknowledged early, as by default."""

from __future__ import annotations

from celery import Celery

from bench import adapter
from bench.tally import hit

options = adapter.parse()
app = Celery("bench", broker=adapter.URL, backend=adapter.URL.rsplit("/", 1)[0] + "/1")
app.conf.update(
    task_ignore_result=not options.keep,
    worker_prefetch_multiplier=64,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(i: int) -> None:
    hit(i)


class Celeries:
    """celery."""

    def setup(self) -> None:
        pass

    def open(self) -> None:
        app.pool.acquire(block=True).release()

    def close(self) -> None:
        pass

    def one(self, number: int) -> None:
        noop.delay(i=number)

    def bulk(self, numbers: range) -> None:
        with app.producer_pool.acquire(block=True) as producer:
            for number in numbers:
                noop.apply_async(kwargs={"i": number}, producer=producer)

    def worker(self) -> None:
        pool, size = options.setting.split(":")
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        app.worker_main(["worker", "-P", pool, "-c", size, "-l", "WARNING", *quiet])


if __name__ == "__main__":
    adapter.main(Celeries)
