"""How the command line logs: to standard error, by Python's logging."""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import Final, Literal, TypeAlias, cast

import attrs
import click
from click.core import ParameterSource

logger = logging.getLogger("procrastinate.cli")

Style: TypeAlias = Literal["%", "{", "$"]

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
STYLES: Final = ("%", "{", "$")
FORMAT: Final = "%(levelname)s:%(name)s:%(message)s"


def get_log_level(verbosity: int | None = None, log_level: str | None = None) -> int:
    """Return the level to log from: `log_level` by its name, else debug if `verbosity` is above 0, else info."""
    if log_level is not None:
        return logging.getLevelNamesMapping()[log_level.upper()]
    return logging.DEBUG if verbosity else logging.INFO


def configure_logging(
    verbosity: int | None = None,
    log_level: str | None = None,
    format: str = FORMAT,  # noqa: A002  users know the name
    style: Style = "%",
) -> None:
    """Log to standard error, unless Python's logging is set up already.

    Args:
        verbosity: see `get_log_level`.
        log_level: see `get_log_level`.
        format: of a line.
        style: of `format`, as in Python's logging.
    """
    _configure(get_log_level(verbosity, log_level), format, style)


def _configure(level: int, line_format: str, style: Style, handlers: list[logging.Handler] | None = None) -> None:
    logging.basicConfig(level=level, format=line_format, style=style, handlers=handlers)
    name = logging.getLevelName(level)
    logger.debug("Log level set to %s", name, extra={"action": "set_log_level", "value": name})


@attrs.frozen(kw_only=True)
class LogSettings:
    """What the options say about logging.

    Attributes:
        level: as Python's logging has it.
        is_explicit: the user asked for that level.
        log_format: the format of a line, None if the user did not ask for one.
        style: one of STYLES.
    """

    level: int
    is_explicit: bool
    log_format: str | None
    style: Style

    @property
    def is_debug(self) -> bool:
        """Whether the user wants to see everything."""
        return self.level <= logging.DEBUG

    @property
    def is_for_people(self) -> bool:
        """Whether somebody reads along on a terminal, and asked for no format of their own."""
        return self.log_format is None and sys.stderr.isatty()

    def apply(self) -> None:
        """Set up Python's logging. What the app's own modules set up goes first: call it after they are imported."""
        if self.is_explicit:
            logging.getLogger().setLevel(self.level)
        if self.is_for_people and is_rich(sys.stderr):
            _configure(self.level, "%(message)s", "%", [_readable_handler()])
        else:
            _configure(self.level, self.log_format or FORMAT, self.style)


def is_rich(stream: object) -> bool:
    """Return whether a stream is a terminal on which the extra `cli` can draw."""
    return bool(getattr(stream, "isatty", lambda: False)()) and importlib.util.find_spec("rich") is not None


def _readable_handler() -> logging.Handler:
    from rich.console import Console  # noqa: PLC0415  an extra
    from rich.logging import RichHandler  # noqa: PLC0415  an extra

    return RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")


def from_options(
    context: click.Context, *, verbose: int, level: str | None, log_format: str, style: str
) -> LogSettings:
    """Make the settings of the global options. Raises a usage error where they contradict each other."""
    verbose_typed = context.get_parameter_source("verbose") is ParameterSource.COMMANDLINE
    level_typed = context.get_parameter_source("log_level") is ParameterSource.COMMANDLINE
    if verbose_typed and level_typed:
        raise click.UsageError("Option -v/--verbose is not allowed together with --log-level.", context)
    checked_style = cast("Style", style)
    try:
        logging.Formatter(log_format, style=checked_style)
    except ValueError as error:
        message = f"This is no log format of style {style}: {log_format!r} ({error})."
        raise click.BadParameter(message, context, param_hint="'--log-format'") from error
    is_default = context.get_parameter_source("log_format") is ParameterSource.DEFAULT
    return LogSettings(
        level=get_log_level(verbose, None if verbose_typed else level),
        is_explicit=bool(level) or verbose > 0,
        log_format=None if is_default else log_format,
        style=checked_style,
    )
