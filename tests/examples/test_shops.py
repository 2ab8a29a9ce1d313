"""What one does on the page of each shop, on the servers that its command starts."""

from __future__ import annotations

import psycopg
import pytest


@pytest.mark.timeout(180)
@pytest.mark.parametrize("command", [["fastapi"], ["fastapi", "--separate-worker"], ["flask"]], ids=" ".join)
def test_orders_are_confirmed_and_a_declined_one_leaves_nothing(command, start, empty_database):
    shop = start(*command)
    assert "<h1>A shop with jobs</h1>" in shop.request("/")[1]
    assert shop.request("/orders", {"customer": "", "item": "tea"})[0] == 422

    assert shop.order(customer="Ada", item="tea") == (201, {"order_id": 1, "job_id": 1})
    assert shop.order(customer="Bob", item="honey", decline_card=True) == (
        402,
        {"detail": {"order_id": 2, "job_id": 2}},
    )
    assert shop.order(customer="Cleo", item="bread") == (201, {"order_id": 3, "job_id": 3})
    shop.wait_until(lambda: {row["status"] for row in shop.rows()} == {"succeeded"})

    assert shop.rows() == [
        {
            "order_id": number,
            "customer": customer,
            "item": item,
            "confirmation": f"Dear {customer}, your {item} is on its way.",
            "job_id": number,
            "status": "succeeded",
        }
        for number, customer, item in [(3, "Cleo", "bread"), (1, "Ada", "tea")]
    ]
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("select id from orders order by id").fetchall() == [(1,), (3,)]
        assert connection.execute("select id from procrastinate_jobs order by id").fetchall() == [(1,), (3,)]

    shop.order()
    assert shop.stop() == 0
    with psycopg.connect(empty_database) as connection:
        [[status]] = connection.execute("select status::text from procrastinate_jobs where id = 4").fetchall()
    assert status in {"todo", "succeeded"}  # but not running without a worker
    log = shop.log.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log
