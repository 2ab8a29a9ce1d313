"""Tasks in a module of their own."""

from procrastinate.contrib.django import app


@app.task
def listed():
    pass
