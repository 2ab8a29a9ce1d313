"""How fast one worker drains a queue of jobs that do nothing, and what each job costs."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bench import runs
from bench.ceilings import bare
from bench.contenders import OURS, Contender
from bench.measurement import Arm, Measurement, Options, Results, Row, number, row
from bench.stand import Stand, insert_jobs

LOCKS = 5_000
KEPT, DELETED, SYNC, LOCKED = "ours, kept", "ours, deleted", "ours, kept, in threads", "ours, kept, 5,000 locks"
BARE_KEPT, BARE_DELETED = "bare statements, kept", "bare statements, deleted"


def locked(stand: Stand, jobs: int) -> Measurement:
    """Drain jobs each of which holds one of 5,000 locks."""
    with stand.new_database("bench_locks") as database, runs.tally_for(stand, jobs) as tally:
        insert_jobs(database, jobs, lock=f"'lock ' || n % {LOCKS}")
        database.settle()
        return runs.drain_filled(stand, OURS, database, tally, keep=True)


class Drains:
    """Ours, the bare statements and the peers, in turns."""

    name = "drain"

    def arms(self, options: Options) -> Sequence[Arm]:
        jobs = options.scaled(OURS.jobs, 2_000)

        def of(contender: Contender, *, keep: bool, task: str = "noop") -> functools.partial[Measurement]:
            count = options.scaled(contender.jobs, 500)
            return functools.partial(runs.drain, contender=contender, jobs=count, keep=keep, task=task)

        found = [
            Arm(BARE_KEPT, functools.partial(bare, name="keep", jobs=jobs)),
            Arm(KEPT, of(OURS, keep=True)),
            Arm(BARE_DELETED, functools.partial(bare, name="delete", jobs=jobs)),
            Arm(DELETED, of(OURS, keep=False)),
        ]
        if not options.quick:
            found += [
                Arm(SYNC, of(OURS, keep=True, task="noop_sync")),
                Arm(LOCKED, functools.partial(locked, jobs=jobs)),
            ]
        for peer in options.peers.values():
            for keep in peer.keeps:
                found.append(Arm(f"{peer.name}, {'kept' if keep else 'deleted'}", of(peer, keep=keep)))
        if "incumbent" in options.peers and not options.quick:
            found.append(
                Arm("incumbent, kept, in threads", of(options.peers["incumbent"], keep=True, task="noop_sync"))
            )
        return found

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        def against(arm: str, base: str, least: float, what: str, measure: str) -> Row:
            return row(
                results,
                [arm, base],
                measure,
                lambda: (
                    f"{results.ratio(arm, base):.2f} × {what}: {number(results.median(arm))} against "
                    f"{number(results.median(base))} jobs/s"
                ),
                f"≥ {least:g} × {what}",
                lambda: results.ratio(arm, base) >= least,
            )

        kept, deleted = "drain, jobs kept", "drain, jobs deleted on success"
        found = [against(KEPT, BARE_KEPT, 0.7, "bare statements", kept)]
        if "incumbent" in options.peers:
            found.append(against(KEPT, "incumbent, kept", 45, "incumbent", kept))
        if "pgqueuer" in options.peers:
            found.append(against(DELETED, "pgqueuer, deleted", 2, "pgqueuer", deleted))
        if "graphile-worker" in options.peers:
            found.append(against(DELETED, "graphile-worker, deleted", 1, "graphile-worker", deleted))
        found.append(
            row(
                results,
                [DELETED, BARE_DELETED],
                deleted,
                lambda: f"{results.ratio(DELETED, BARE_DELETED):.2f} × bare statements",
            )
        )
        if not options.quick:
            if "incumbent" in options.peers:
                found.append(
                    against(SYNC, "incumbent, kept, in threads", 10, "incumbent", "drain, sync tasks in threads")
                )
            found.append(against(LOCKED, KEPT, 0.6, "without locks", "drain, each job holding one of 5,000 locks"))
        for arm, limits in ((KEPT, (30, 25, 1000)), (DELETED, (30, 15, 700))):
            found += self._costs(results, arm, *limits)
        return found

    def _costs(self, results: Results, arm: str, worker: float, server: float, wal: float) -> list[Row]:
        def median(name: str) -> float:
            return results.median(arm, name)

        return [
            row(
                results,
                [arm],
                f"processor time per job, {arm}",
                lambda: f"worker {median('worker'):.1f} + server {median('server'):.1f} µs",
                f"≤ {worker:g} + {server:g} µs",
                lambda: median("worker") <= worker and median("server") <= server,
            ),
            row(
                results,
                [arm],
                f"WAL per job, {arm}",
                lambda: f"{median('wal'):.0f} bytes",
                f"≤ {wal:,g} bytes",
                lambda: median("wal") <= wal,
            ),
            row(
                results,
                [arm],
                f"commits per job, {arm}",
                lambda: f"1 per {1 / max(median('commits'), 1e-9):,.0f} jobs",
                "≤ 1 per 100 jobs",
                lambda: median("commits") <= 0.01,
            ),
            row(
                results,
                [arm],
                f"buffers touched and row versions left dead per job, {arm}",
                lambda: f"{median('buffers'):.1f} and {median('dead'):.1f}",
            ),
        ]
