"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import pathlib
import sys

import procrastinate

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

project = "procrastinate"
author = copyright = "the procrastinate contributors"  # noqa: A001  Sphinx's name
version = release = procrastinate.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "click_reference", "root_links"]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = f"procrastinate {version}"
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

# Anchors as on the code host, so that one link works in both places.
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# The attributes of a class stand in its docstring; each is documented once.
napoleon_use_ivar = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
add_module_names = False

# `-n` asks for a page behind every name in a signature. These have none here:
nitpick_ignore_regex = [
    # Names of Python and of libraries: their documentation is elsewhere, and a build must not need the network.
    (r"py:.*", r"(builtins|collections|contextlib|datetime|enum|logging|pathlib|typing|typing_extensions)\..*"),
    (r"py:.*", r"(aiopg|asyncio|asyncpg|attrs?|click|croniter|psycopg|psycopg2|psycopg_pool|pytest|sqlalchemy)\..*"),
    # Builtin and standard names that annotations use without their module.
    (r"py:.*", r"(Any|Awaitable|Callable|Generator|Iterable|Iterator|Mapping|Path|Protocol|Self|Sequence|TypedDict)"),
    # Type variables.
    (r"py:.*", r".*\b(P|R|T|Called|AnyTask)"),
    # What is behind the interface: the store's operations.
    (r"py:.*", r"(procrastinate\.)?(store\..*|Operation|Flow|Json|Row)"),
]
