"""How the command line logs: to standard error, by Python's logging."""

from __future__ import annotations

import logging
from typing import Final, Literal, cast

import attrs
import click
from click.core import ParameterSource

logger = logging.getLogger("procrastinate.cli")

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
STYLES: Final = ("%", "{", "$")
FORMAT: Final = "%(levelname)s:%(name)s:%(message)s"


@attrs.frozen(kw_only=True)
class LogSettings:
    """What the options say about logging.

    Attributes:
        level: one of LEVELS.
        is_explicit: the user asked for that level.
        log_format: the format of a line.
        style: one of STYLES.
    """

    level: str
    is_explicit: bool
    log_format: str
    style: Literal["%", "{", "$"]

    @property
    def is_debug(self) -> bool:
        """Whether the user wants to see everything."""
        return self.level == "debug"

    def apply(self) -> None:
        """Set up Python's logging. What the app's own modules set up goes first: call it after they are imported."""
        level = self.level.upper()
        logging.basicConfig(level=level, format=self.log_format, style=self.style)
        if self.is_explicit:
            logging.getLogger().setLevel(level)
        logger.debug("Log level set to %s", level, extra={"action": "set_log_level", "value": level})


def from_options(
    context: click.Context, *, verbose: int, level: str | None, log_format: str, style: str
) -> LogSettings:
    """Make the settings of the global options. Raises a usage error where they contradict each other."""
    verbose_typed = context.get_parameter_source("verbose") is ParameterSource.COMMANDLINE
    level_typed = context.get_parameter_source("log_level") is ParameterSource.COMMANDLINE
    if verbose_typed and level_typed:
        raise click.UsageError("Option -v/--verbose is not allowed together with --log-level.", context)
    by_verbosity = "debug" if verbose > 0 else "info"
    effective = by_verbosity if level is None or verbose_typed else level
    checked_style = cast('Literal["%", "{", "$"]', style)
    try:
        logging.Formatter(log_format, style=checked_style)
    except ValueError as error:
        message = f"This is no log format of style {style}: {log_format!r} ({error})."
        raise click.BadParameter(message, context, param_hint="'--log-format'") from error
    return LogSettings(
        level=effective, is_explicit=bool(level) or verbose > 0, log_format=log_format, style=checked_style
    )
