"""What is the same on every connection: how an operation is run on it, and how its errors are told."""

from __future__ import annotations

import abc
import contextlib
import math
import time
import types
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

import attrs
from typing_extensions import override

from procrastinate import exceptions
from procrastinate.store import postgres
from procrastinate.store.operation import Operation, Row, run_flow, run_flow_async
from procrastinate.store.postgres import Statement

T = TypeVar("T")

Exchange: TypeAlias = Generator[Statement, Sequence[Row], T]

# From a driver's error to ours, None for an error of another kind.
Translation: TypeAlias = Callable[[Exception], exceptions.ProcrastinateException | None]


class JsonFunctions(Protocol):
    """How the user's own SQL writes and reads JSON."""

    def dumps(self, value: Any) -> Any: ...  # noqa: D102
    def loads(self, text: Any) -> Any: ...  # noqa: D102


# Begin, end, and undo.
TRANSACTION = Statement("begin"), Statement("commit"), Statement("rollback")
# In the caller's transaction only this part of it may be undone. It ends with the transaction, or when it is released.
SAVEPOINT = (
    Statement("savepoint procrastinate"),
    Statement("release savepoint procrastinate"),
    Statement("rollback to savepoint procrastinate"),
)


# Has PostgreSQL make the connection's plans anew when they are next needed.
FORGET_PLANS = Statement("discard plans")


# A pool hands out its connections in turns, and a worker uses no more of them than these.
CONNECTIONS = 4


@attrs.define
class PlanKeeping:
    """Decides when connections are to forget their plans: when statements lose more than a twentieth of the time.

    PostgreSQL keeps a plan until the table is next analyzed, however much that grows meanwhile. By plans that were made
    for an empty table, 5,000 jobs a second wait twice as long or more within seconds (`bench latency`); and a claim of
    ten took 67 ms beside 500,000 (`bench plans`). Statements on many rows are planned anew anyway.

    What a statement loses is what it takes longer than the fastest one did, since nothing is known of the network and
    the disk. Most of that has other reasons, so it is done more and more rarely: a table that grows steadily takes
    twice as long to grow as much again. In vain it costs 1 % of the time at first, and a thousandth in the end.

    Attributes:
        bearable: so many seconds may be lost at once.
        interval: seconds from the first time to the next at least, and from then on twice as many each time.
        longest: how many seconds that comes to be; in any case a hundred times the fastest statement.
    """

    bearable: float = 0.05
    interval: float = 0.25
    longest: float = 8.0
    _fastest: float = attrs.field(default=math.inf, init=False)
    _lost: float = attrs.field(default=0.0, init=False)
    _latest: float = attrs.field(default=0.0, init=False)
    _next: float = attrs.field(default=0.0, init=False)
    _due: int = attrs.field(default=0, init=False)

    def must_forget(self, started: float, now: float) -> bool:
        """Take note of a statement that began and has just ended, at these times of the monotonic clock."""
        took = now - started
        self._fastest = min(self._fastest, took)
        # An idle worker's statements are slow, from cold caches, and little is lost by that.
        self._lost = max(self._lost - (now - self._latest) / 20, 0.0) + took - self._fastest
        self._latest = now
        if self._lost >= self.bearable and now >= self._next:
            self._lost, self._due = 0.0, CONNECTIONS
            self._next = now + max(self.interval, 100 * self._fastest)
            self.interval = min(2 * self.interval, self.longest)
        if not self._due:
            return False
        self._due -= 1
        return True


@attrs.frozen
class Rendering:
    """How a connector writes operations.

    Attributes:
        json: its JSON functions.
        schema: where the tables are, None to find them on the search_path.
        plans: what its connections do about plans that PostgreSQL keeps.
    """

    json: postgres.JsonText = attrs.field(factory=postgres.JsonText)
    schema: str | None = None
    plans: PlanKeeping = attrs.field(factory=PlanKeeping, eq=False)

    def statement(self, operation: Operation[Any], *, is_alone: bool = False) -> Statement:
        """Return the statement that asks `operation`; `is_alone` if it is a transaction of its own."""
        parameters = operation.parameters(self.json)
        if operation.asks_if_alone:
            parameters["is_alone"] = is_alone
        return Statement(postgres.statement(operation, self.schema), parameters, is_planned_anew=operation.is_large)


class errors_translated(contextlib.AbstractContextManager[None]):  # noqa: N801  reads as contextlib.suppress does
    """Turn a driver's errors into ours, with the original as their cause.

    A class, as two of these are around each statement: a generator would take four times as long.
    """

    __slots__ = ("_translated",)

    def __init__(self, translated: Translation) -> None:
        self._translated = translated

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, exceptions.ProcrastinateException):
            return
        ours = self._translated(error)
        if ours is not None:
            raise ours from error


class Adapter(abc.ABC):
    """One connection of some driver.

    Attributes:
        kind: what users know this connection as.
    """

    kind: ClassVar[str]

    def __init__(self, connection: Any) -> None:
        """Speak on `connection`."""
        self.connection = connection


class DriverAdapter(Adapter):
    """A connection on which we send the statements ourselves."""

    @property
    @abc.abstractmethod
    def commits_each_statement(self) -> bool:
        """Whether the next statement would be committed by itself, as no transaction has begun and none would."""

    @abc.abstractmethod
    def translated(self, error: Exception) -> exceptions.ConnectorException | None:
        """Return our error for the driver's, None for an error of another kind."""

    def errors_translated(self) -> contextlib.AbstractContextManager[None]:
        """Turn the driver's errors into ours, with the original as their cause."""
        return errors_translated(self.translated)

    def exchange(self, operation: Operation[T], rendering: Rendering) -> Exchange[T]:
        """Run an operation as a flow of statements, of which an atomic one takes several: it may have to be undone."""
        if not operation.atomic:
            is_alone = operation.asks_if_alone and self.commits_each_statement
            statement = rendering.statement(operation, is_alone=is_alone)
            started = time.monotonic()
            rows = yield statement
            is_due = not statement.is_planned_anew and rendering.plans.must_forget(started, time.monotonic())
            if is_due and self.commits_each_statement:
                # Whatever becomes of this, the operation has been done.
                with contextlib.suppress(Exception):
                    yield FORGET_PLANS
            return operation.decode(rows, rendering.json)
        begin, end, undo = TRANSACTION if self.commits_each_statement else SAVEPOINT
        statement = rendering.statement(operation)
        yield begin
        try:
            answer = operation.decode((yield statement), rendering.json)
        except BaseException:
            # Where the connection itself was lost, this fails too; the first error says more.
            with contextlib.suppress(Exception):
                yield undo
            raise
        yield end
        return answer


class SyncAdapter(Adapter):
    """One sync connection."""

    @abc.abstractmethod
    def run(self, operation: Operation[T], rendering: Rendering) -> T:
        """Answer an operation, in the transaction of the connection."""

    @abc.abstractmethod
    def query(self, text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> list[dict[str, Any]]:
        """Run the user's own SQL: dictionaries are sent as JSONB, and JSON is read with `json`."""

    def script(self, text: str) -> None:
        """Run the user's own SQL without parameters, which may be several statements."""
        self.query(text, {}, postgres.JsonText())


class SyncDriverAdapter(SyncAdapter, DriverAdapter):
    """One connection of a sync driver."""

    @abc.abstractmethod
    def execute(self, statement: Statement) -> Sequence[Row]:
        """Run a statement, and return its rows. Errors are the driver's."""

    @override
    def run(self, operation: Operation[T], rendering: Rendering) -> T:
        with self.errors_translated():
            return run_flow(self.exchange(operation, rendering), self.execute)


class AsyncAdapter(Adapter):
    """One async connection."""

    @abc.abstractmethod
    async def run(self, operation: Operation[T], rendering: Rendering) -> T:
        """Answer an operation, in the transaction of the connection."""

    @abc.abstractmethod
    async def query(self, text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> list[dict[str, Any]]:
        """Run the user's own SQL: dictionaries are sent as JSONB, and JSON is read with `json`."""

    async def script(self, text: str) -> None:
        """Run the user's own SQL without parameters, which may be several statements."""
        await self.query(text, {}, postgres.JsonText())


class AsyncDriverAdapter(AsyncAdapter, DriverAdapter):
    """One connection of an async driver."""

    @abc.abstractmethod
    async def execute(self, statement: Statement) -> Sequence[Row]:
        """Run a statement, and return its rows. Errors are the driver's."""

    @override
    async def run(self, operation: Operation[T], rendering: Rendering) -> T:
        with self.errors_translated():
            return await run_flow_async(self.exchange(operation, rendering), self.execute)


def with_json(value: Any, as_json: Callable[[dict[Any, Any]], Any]) -> Any:
    """Return an argument of the user's with each dictionary in it, at any depth of lists and tuples, as JSON."""
    match value:
        case dict():
            return as_json(value)  # pyright: ignore[reportUnknownArgumentType]
        case list():
            return [with_json(item, as_json) for item in value]  # pyright: ignore[reportUnknownVariableType]
        case tuple():
            return tuple(with_json(item, as_json) for item in value)  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


def by_sqlstate(error: BaseException, *, is_about_a_value: bool) -> exceptions.ConnectorException:
    """Translate a server's error, whose SQLSTATE each driver keeps under its own name, or one that the driver found."""
    sqlstate = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if sqlstate is None and is_about_a_value:
        return exceptions.InvalidData(f"PostgreSQL cannot store this value: {error}")
    constraint = getattr(error, "constraint_name", None) or getattr(
        getattr(error, "diag", None), "constraint_name", None
    )
    return postgres.translate_error(sqlstate, str(error).strip() or type(error).__name__, constraint=constraint)
