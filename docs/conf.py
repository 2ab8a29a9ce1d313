"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import pathlib
import sys

import procrastinate

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

project = "procrastinate"
author = copyright = "the procrastinate contributors"  # noqa: A001  Sphinx's name
version = release = procrastinate.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "click_reference",
    "plain_properties",
    "root_links",
]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = f"procrastinate {version}"
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

# Anchors as on the code host, so that one link works in both places.
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
autoclass_content = "both"  # arguments stand with `__init__`
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Docstrings mark code as Markdown does.
default_role = "code"
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
    (r"py:.*", r"_?(asyncio|builtins|cmd|collections|contextlib|datetime|enum|logging|os|pathlib|types|typing)\..*"),
    (r"py:.*", r"_?(aiopg|asyncpg|attrs?|click|croniter|psycopg\w*|pytest|sphinx|sqlalchemy|typing_extensions)\..*"),
    # The same, where an annotation gives no module.
    (r"py:.*", r"(Any|Awaitable|Callable|Generator|Iterable|Iterator|Mapping|Path|Protocol|Self|Sequence|TypedDict)"),
    # Type variables, and types that are documented as the constants that they are.
    (r"py:.*", r".*\b(P|R|T|Called|AnyTask|JSONDict|JSONValue)"),
    # What is behind the interface: the store's operations, base classes, protocols for our own use.
    (r"py:.*", r"(procrastinate\.)?(store\..*|pooled_connector\..*|testing\._\w+|Operation|Flow|Json|Row|NamedServer)"),
]
# A builtin's name in a signature, such as `type`, is looked for among all attributes of that name.
suppress_warnings = ["ref.python"]
