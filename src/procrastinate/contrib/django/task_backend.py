"""Placeholder."""


def runner(name):
    return None
