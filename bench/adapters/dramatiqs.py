"""`setting` is the number of threads. Ended messages always go, and there are no results."""

from __future__ import annotations

import signal
import threading

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench import adapter
from bench.tally import hit

broker = RedisBroker(url=adapter.URL)
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="noop")
def noop(i: int) -> None:
    hit(i)


class Dramatiq:
    """dramatiq."""

    def setup(self) -> None:
        pass

    def open(self) -> None:
        pass

    def close(self) -> None:
        broker.close()

    def one(self, number: int) -> None:
        noop.send(number)

    def bulk(self, numbers: range) -> None:
        dramatiq.group(noop.message(number) for number in numbers).run()

    def worker(self) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        worker = dramatiq.Worker(broker, worker_threads=int(self.options.setting), worker_timeout=10)  # ms, not 1000
        worker.start()
        stop.wait()
        worker.stop()


if __name__ == "__main__":
    adapter.main(Dramatiq)
