"""Stand-ins for names that live elsewhere."""

from __future__ import annotations

from typing import Any, NoReturn

from procrastinate import exceptions


class MovedElsewhere:
    """Stands where something was that lives in another module now; says so at any use."""

    def __init__(self, name: str, new_location: str) -> None:
        """Stand for `procrastinate.name`, which is in the module `new_location` now."""
        self.__text = f"procrastinate.{name} has been moved to {new_location}.{name}"

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raise MovedElsewhere, as every other use."""
        raise exceptions.MovedElsewhere(self.__text)

    def __getattr__(self, name: str) -> NoReturn:
        raise exceptions.MovedElsewhere(self.__text)
