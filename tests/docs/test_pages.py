"""Every code block of the documentation does what it says."""

from pathlib import Path

import pytest
from blocks import blocks_of, check_shown
from page_runner import ROOT, PageRunner

PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts]
WITH_CODE = [page for page in PAGES if any(True for _ in blocks_of(page.read_text(encoding="utf-8")))]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    text = page.read_text(encoding="utf-8")
    # Pages that make the tables start without them.
    makes_tables = "schema --apply\nApplying schema\nDone\n" in text or "schema --upgrade --sql" in text
    database = request.getfixturevalue("empty_database" if makes_tables else "database")
    runner = PageRunner(page, tmp_path, database, monkeypatch)
    try:
        for block in blocks_of(text):
            try:
                runner.run(block)
            except BaseException as error:
                error.add_note(f"{page.relative_to(ROOT)}:{block.line}, a block of {block.language}")
                raise
    finally:
        runner.close()


def test_what_is_shown_must_be_there() -> None:
    check_shown(["job 1: …", "", "done"], "start\njob 23:   failed\ndone\n")
    with pytest.raises(AssertionError):
        check_shown(["done", "start"], "start\ndone\n")
