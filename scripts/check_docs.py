"""Check that what the documentation points to is there: pages, their headings, files, and targets of make."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Iterator
from urllib.parse import unquote

ROOT = pathlib.Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
MAKE = re.compile(r"(?:`|^\s*\$? ?)make ([a-z][a-z-]*)", re.MULTILINE)


def main() -> int:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
    faults = [f"{page.relative_to(ROOT)}: {fault}" for page in pages for fault in check_page(page, targets)]
    print("".join(f"{fault}\n" for fault in faults), end="")
    print(f"Documentation: {len(pages)} pages, {len(faults)} faults")
    return int(bool(faults))


def check_page(page: pathlib.Path, targets: set[str]) -> Iterator[str]:
    text = page.read_text()
    for target in MAKE.findall(text):
        if target not in targets:
            yield f"there is no target for `make {target}`"
    prose = CODE.sub("", FENCE.sub("", text))
    for match in LINK.finditer(prose):
        link = unquote(match[1] or match[2])
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            yield f"{link} leads to nothing"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            yield f"{link}: no such heading"


def anchors(text: str) -> set[str]:
    """Return the names by which GitHub and Sphinx's MyST know the headings of a page."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while name + (f"-{number}" if number else "") in found:
            number += 1
        found.add(name + (f"-{number}" if number else ""))
    return found


if __name__ == "__main__":
    sys.exit(main())
