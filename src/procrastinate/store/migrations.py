"""The migrations that this version ships, and how they compare with those that a database had.

Their names sort in the order in which they are applied: version, number, half, description. Those of the half `pre` go
before the version's workers start, and workers of the version before can live with them; those of `post` follow when
the last of these has stopped.
"""

from __future__ import annotations

import functools
import hashlib
import pathlib
import re
from collections.abc import Mapping

import attrs

FOLDER = pathlib.Path(__file__).parent / "sql" / "migrations"

NO_TABLES = (
    "There are no tables of procrastinate here: run `procrastinate schema --apply`, and check the database and the "
    "search_path."
)
OTHER_TABLES = (
    "These are tables of the other implementation: stop its workers, then run `procrastinate schema --upgrade`, which "
    "keeps all jobs."
)

# Comments, texts, and bodies of functions, in none of which a semicolon ends anything.
_TOKEN = re.compile(r"--[^\n]*|'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$|;|[^-'$;]+|.", re.DOTALL)


@attrs.frozen
class Migration:
    """One step from a version's tables to the next one's.

    Attributes:
        name: such as `04.00.00_01_pre_initial_schema`.
        text: its SQL.
    """

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """What tells whether it was applied with the same text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def is_post(self) -> bool:
        """Whether it has to wait until the workers of the version before have stopped."""
        return is_post(self.name)

    @property
    def record(self) -> str:
        """The statement that records it as applied. It fails if somebody else did that before."""
        # The name and the checksum are the package's own.
        return f"insert into procrastinate_migrations (name, checksum) values ('{self.name}', '{self.checksum}');\n"  # noqa: S608


def shipped() -> tuple[Migration, ...]:
    """Return this version's migrations, in their order."""
    return _read(FOLDER)


@functools.cache
def _read(folder: pathlib.Path) -> tuple[Migration, ...]:
    return tuple(Migration(path.stem, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.sql")))


def is_post(name: str) -> bool:
    """Tell whether a migration of this name belongs to the half `post`."""
    return "_post_" in name


def misfit(applied: Mapping[str, str]) -> str | None:
    """Return why a worker of this version cannot work with these migrations (checksums by name), None if it can."""
    known = {migration.name: migration for migration in shipped()}
    missing = [
        migration.name for migration in known.values() if not migration.is_post and migration.name not in applied
    ]
    if missing:
        return (
            f"The tables are those of an older version, or their upgrade is not finished: {', '.join(missing)} must be "
            "applied. Run `procrastinate schema --upgrade`."
        )
    # What a newer version does before its workers start is made so that those of this one can live with it.
    unknown = sorted(name for name in applied.keys() - known.keys() if is_post(name))
    if unknown:
        return (
            f"The tables are those of a newer version, which applied {', '.join(unknown)}: install that version of "
            "procrastinate here."
        )
    return altered(applied)


def altered(applied: Mapping[str, str]) -> str | None:
    """Return which of our migrations were applied with another text, as a message; None if there are none."""
    names = [m.name for m in shipped() if applied.get(m.name, m.checksum) != m.checksum]
    if not names:
        return None
    return (
        f"{', '.join(names)} was applied with another text than this version's, by a modified or unreleased version. "
        "`procrastinate schema --verify` lists what differs."
    )


def statements(text: str) -> list[str]:
    """Split a script into its statements, each with the comments before it and without the semicolon."""
    found: list[str] = []
    current = ""
    for token in _TOKEN.finditer(text):
        if token[0] == ";":
            found.append(current.strip())
            current = ""
        else:
            current += token[0]
    # What follows the last semicolon is a statement too, unless it is but a comment.
    rest = current.strip()
    return found if re.fullmatch(r"(--[^\n]*\s*)*", rest) else [*found, rest]
