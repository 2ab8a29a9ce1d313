"""What the installed distribution says of itself."""

from __future__ import annotations

from importlib import metadata


def extract_metadata() -> dict[str, str]:
    """Return author, email, license, url and version; what the distribution does not say is an empty text."""
    headers = metadata.metadata("procrastinate")

    def first(*names: str) -> str:
        return next((headers[name] for name in names if name in headers), "")

    urls = [each.partition(",") for each in headers.get_all("Project-URL") or []]
    homepages = [url.strip() for label, _, url in urls if label.strip().lower() == "homepage"]
    return {
        "author": first("Author"),
        "email": first("Author-email"),
        "license": first("License-Expression", "License"),
        "url": next(iter(homepages), first("Home-page")),
        "version": first("Version"),
    }
