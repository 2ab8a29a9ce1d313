"""The code blocks of a page, in order, with what the page's invisible comments say about them.

In a comment of HTML, which no reader sees, a page may

- run Python before the next block, or after the last one: `<!-- run` and the lines;
- expect the next block to raise: `<!-- raises AlreadyEnqueued -->`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+)(?P<language>\S*)")
RUN = re.compile(r"^<!-- run\s*$")
RAISES = re.compile(r"^<!-- raises (\w+) -->$")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code and the number of its first line."""

    language: str
    text: str
    line: int
    raises: str | None = None

    @property
    def file(self) -> str | None:
        """The file that the block's first line says it is: `# tasks.py`."""
        match = re.match(r"(?:#|\.\.|--) ([\w/.-]+\.\w+)\n", self.text)
        return match[1] if match else None


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in Markdown. Directives of MyST, such as `{toctree}`, are none."""
    lines = iter(enumerate(page.splitlines(), 1))
    raises = None
    for number, line in lines:
        if match := RAISES.match(line):
            raises = match[1]
        elif RUN.match(line):
            yield Block("python", _until(lines, "-->", ""), number + 1)
        elif match := FENCE.match(line):
            text = _until(lines, match["fence"], match["indent"])
            if not match["language"].startswith("{"):
                yield Block(match["language"], text, number + 1, raises)
                raises = None


def _until(lines: Iterator[tuple[int, str]], end: str, indent: str) -> str:
    found: list[str] = []
    for _, line in lines:
        if line.strip() == end:
            return "".join(f"{each}\n" for each in found)
        found.append(line.removeprefix(indent))
    raise AssertionError(f"a block is not closed: {found[:1]}")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of a console block, and the lines that the page shows under it."""

    text: str
    shown: list[str]


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a console block; a backslash continues one."""
    found: list[Command] = []
    lines = iter(block.text.replace("\\\n", "").splitlines())
    for line in lines:
        if line.startswith("$ "):
            found.append(Command(" ".join(line[2:].split("  # ")[0].split()), []))
        else:
            assert found, f"line {block.line}: a console block begins with `$ `"
            found[-1].shown.append(line)
    return found


def check_shown(shown: list[str], actual: str) -> None:
    """Check that the lines shown are among the actual ones, in their order. Numbers may differ; `…` is anything."""
    said = iter(re.sub(r"\d+", "0", " ".join(line.split())) for line in actual.splitlines())
    for line in shown:
        text = re.sub(r"\d+", "0", " ".join(line.split()))
        if text in {"", "…"}:
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in text.split("…")))
        assert any(pattern.fullmatch(each) for each in said), f"{line!r} is shown, and is not there:\n{actual}"
