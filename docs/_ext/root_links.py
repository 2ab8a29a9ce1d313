"""Links from the documentation to the files beside it, such as the changelog, lead to pages that include them."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r"\]\(((?:\.\./)+)(" + "|".join(map(re.escape, PAGES)) + r")(#[^)]*)?\)")


def lead_to_pages(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Rewrite the links of one page, which on the code host lead out of the folder `docs`."""
    up = "../" * docname.count("/")

    def replace(match: re.Match[str]) -> str:
        # The README is no page, and its headings are none of the index.
        anchor = "" if match[2] == "README.md" else match[3] or ""
        return f"]({up}{PAGES[match[2]]}{anchor})"

    source[0] = LINK.sub(replace, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", lead_to_pages)
    return {"parallel_read_safe": True}
