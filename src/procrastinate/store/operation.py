"""What an operation is, and the two runners for flows of several operations.

An operation is a question to the store: typed parameters, a typed answer, and one `.sql` file of the same name in
`store/sql`. It does no I/O: a connector renders it, sends it, and lets it decode the rows. The in-memory store answers
the same operations from dictionaries.

A flow is a generator that yields operations and receives their answers: how a verb that takes several statements is
written once for sync and async callers (the technique of psycopg's generators). The runners do not look at what is
yielded: in the same way connections run one operation as a flow of statements.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

import attrs

T = TypeVar("T")
U = TypeVar("U")

# Statements on more rows than these are planned anew each time, which takes 0.1 to 0.3 ms: a plan that PostgreSQL keeps
# is right for the table as it was (docs/adr/0013).
FEW = 100

Row: TypeAlias = tuple[Any, ...]
Flow: TypeAlias = Generator["Operation[Any]", Any, T]


def list_or_none(texts: Sequence[str] | None) -> list[str] | None:
    """Return texts as a list, which drivers send as an array: a tuple would be a row to some. None stays as it is."""
    return None if texts is None else list(texts)


class Json(Protocol):
    """How a connector writes and reads JSON text."""

    def dumps(self, value: Any) -> str: ...  # noqa: D102
    def dumps_all(self, values: Sequence[Any]) -> str: ...  # noqa: D102
    def loads(self, text: str) -> Any: ...  # noqa: D102
    def loads_all(self, texts: Sequence[str]) -> list[Any]: ...  # noqa: D102


@attrs.frozen(kw_only=True)
class Operation(Generic[T]):
    """One question to the store, answered with a T.

    Attributes:
        name: the stem of the operation's SQL file: the class's name in snake case.
        asks_if_alone: whether the statement has the parameter `is_alone`: that it is a transaction of its own.
    """

    name: ClassVar[str]
    asks_if_alone: ClassVar[bool] = False

    # Once for each class, as each call asks for it.
    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def part(self) -> str | None:
        """The stem of the file in `store/sql/parts` that completes the operation's own, if that leaves a gap."""
        return None

    @property
    def is_large(self) -> bool:
        """Whether so many rows are at stake that it is worth while to plan the statement for this execution alone."""
        return False

    @property
    def atomic(self) -> bool:
        """Whether `decode` may refuse what the statement did, which must then be undone."""
        return False

    def parameters(self, json: Json) -> dict[str, Any]:
        """Return the statement's parameters: plain scalars and lists. JSON travels as text, for any driver."""
        return attrs.asdict(self, recurse=False)

    def decode(self, rows: Sequence[Row], json: Json) -> T:
        """Turn the rows of the answer, tuples in the order of the SQL file's columns, into a T."""
        raise NotImplementedError


def run_flow(flow: Generator[U, Any, T], run: Callable[[U], Any]) -> T:
    """Drive a flow with a sync `run`, and return its result. Errors of `run` are raised at the flow's `yield`."""
    try:
        step = next(flow)
        while True:
            try:
                answer = run(step)
            except BaseException as error:  # noqa: BLE001  the flow decides: it may have a transaction to undo
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        return stop.value


async def run_flow_async(flow: Generator[U, Any, T], run: Callable[[U], Awaitable[Any]]) -> T:
    """Drive a flow with an async `run`, and return its result. Errors of `run` are raised at the flow's `yield`."""
    try:
        step = next(flow)
        while True:
            try:
                answer = await run(step)
            except BaseException as error:  # noqa: BLE001  the flow decides: it may have a transaction to undo
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as stop:
        return stop.value


def ask(operation: Operation[U]) -> Generator[Operation[Any], Any, U]:
    """Yield one operation from within a flow, with the type of its answer: `answer = yield from ask(operation)`."""
    return (yield operation)
