"""Lists arrive at the server as they are, whatever stands in them."""

from __future__ import annotations

import pytest

from database import support
from procrastinate import exceptions
from procrastinate.connections.psycopg import with_plain_arrays

AWKWARD = ["", " ", "null", "NULL", ",", "{}", "{a,b}", "'", "\n", "ä€😀", "%s", "%(x)s"]


@pytest.mark.parametrize(
    "values",
    [
        AWKWARD,
        [*AWKWARD, '"'],
        [*AWKWARD, '","'],
        [*AWKWARD, "\\"],
        [*AWKWARD, '\\"'],
        [*AWKWARD, None],
        [None, None],
        [""],
        [],
    ],
)
def test_texts(connection, values):
    row = connection.execute("select %(x)s::text[]", with_plain_arrays({"x": values})).fetchone()
    assert row == (values,)


@pytest.mark.parametrize("values", [[0], [-1, 2**63 - 1, -(2**63)], [1, None], []])
def test_integers(connection, values):
    row = connection.execute("select %(x)s::bigint[]", with_plain_arrays({"x": values})).fetchone()
    assert row == (values,)


@pytest.mark.parametrize("change", [{"queue": "a\0b"}, {"lock": "a\0b"}, {"priority": 2**31}])
def test_what_the_server_cannot_store(connection, change):
    batch = [support.job(**{"lock": "b", **change}), support.job(lock="c")]
    with pytest.raises(exceptions.InvalidData):
        support.defer(connection, *batch)
