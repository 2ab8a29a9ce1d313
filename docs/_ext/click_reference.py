"""The directive `click-reference`: all commands of a click program, from the program itself."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any, ClassVar

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# How click is told not to wrap a paragraph.
NO_WRAP = "\b\n"


class ClickReference(SphinxDirective):
    """Takes `module:attribute`, and the program's name as an option; writes Markdown and has it parsed."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"prog": str}

    def run(self) -> list[nodes.Node]:
        module, _, attribute = self.arguments[0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        context = command.make_context(self.options["prog"], [], resilient_parsing=True)
        text = "\n".join(describe(command, context))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def describe(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the lines of a command's chapter, and of the commands under it."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield from (f"## {context.command_path}", "", help_of(command), "", "```text", usage, "```", "")
    options = [option for option in command.params if isinstance(option, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    if records:
        yield from ("| Option | |", "|---|---|")
        yield from (f"| `{cell(names)}` | {cell(text)} |" for names, text in records)
        yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from describe(child, child.make_context(name, [], parent=context, resilient_parsing=True))


def help_of(command: click.Command) -> str:
    """Return a command's help as Markdown; what click is told not to wrap is a block of its own."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(
        f"```text\n{paragraph.removeprefix(NO_WRAP)}\n```" if paragraph.startswith(NO_WRAP) else paragraph
        for paragraph in paragraphs
    )


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("click-reference", ClickReference)
    return {"parallel_read_safe": True}
