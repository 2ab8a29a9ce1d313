"""The command `procrastinate completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, *, shell: str) -> None:
    """Print a script that makes a shell complete commands, options, tasks and queues.

    \b
    bash:  eval "$(procrastinate completion bash)"              in ~/.bashrc
    zsh:   eval "$(procrastinate completion zsh)"               in ~/.zshrc
    fish:  procrastinate completion fish > ~/.config/fish/completions/procrastinate.fish
    """  # noqa: D301  \b keeps click from wrapping
    root = context.find_root()
    completion = get_completion_class(shell)
    assert completion is not None  # noqa: S101  click knows these three
    name = root.info_name or "procrastinate"
    variable = f"_{name}_COMPLETE".replace("-", "_").replace(".", "_").upper()
    click.echo(completion(root.command, {}, name, variable).source())
