"""The documentation builds without a warning, and has every public name in its reference."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from page_runner import ROOT
from sphinx.util.inventory import InventoryFile

from unit.public_api import ATTRIBUTES, PUBLIC_API

NAMES = [f"{module}.{name}" for module, names in PUBLIC_API.items() for name in names]


@pytest.fixture
def reference(tmp_path: Path) -> set[str]:
    """Every name that has an entry in the reference."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html", "-D", "html_theme=basic"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees"), str(ROOT / "docs"), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    objects = InventoryFile.loads((tmp_path / "html" / "objects.inv").read_bytes(), uri="").data
    return {name for kind, names in objects.items() if kind.startswith("py:") for name in names}


def canonical(name: str) -> set[str]:
    """Return the names under which an entry for a public name may stand: there, or where it is defined."""
    parts = name.split(".")
    # The longest part that is a module; the rest are attributes.
    size = max(size for size in range(1, len(parts)) if ".".join(parts[:size]) in PUBLIC_API)
    value = importlib.import_module(".".join(parts[:size]))
    for part in parts[size:]:
        value = getattr(value, part)
    value = getattr(value, "fget", value)
    module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return {name, f"{module}.{qualified}"}


@pytest.mark.timeout(180)
def test_every_public_name_has_an_entry_and_every_attribute_a_word(reference: set[str]) -> None:
    assert len(NAMES) > 200
    missing = [name for name in NAMES if not canonical(name) & reference]
    assert not missing, "\n".join(missing)

    for class_name, attributes in ATTRIBUTES.items():
        module = next(module for module, names in PUBLIC_API.items() if module.count(".") and class_name in names)
        cls = getattr(importlib.import_module(module), class_name)
        docstrings = [text for base in cls.__mro__[:-1] for text in (base.__doc__, base.__init__.__doc__)]
        described = re.findall(r"\w+", " ".join(text or "" for text in docstrings))
        for name in attributes.split():
            entries = {f"{base.__module__}.{base.__qualname__}.{name}" for base in cls.__mro__}
            assert name in described or entries & reference, f"{class_name}.{name}"


def test_the_drawing_of_the_states_is_fresh() -> None:
    script = Path("scripts", "draw_states.py")
    done = subprocess.run([sys.executable, script, "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
