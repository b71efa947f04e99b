"""`completion` and `manual`, for both commands: what shells and `man` want to know of a command, made from its own help.

Made when it is asked for, so that it is never behind the command. Does not look at the home.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import get_completion_class

from gsvrd import __version__

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion of this command for SHELL.

    \b
    bash  add to ~/.bashrc:                        eval "$(COMMAND completion bash)"
    zsh   add to ~/.zshrc, behind compinit:        eval "$(COMMAND completion zsh)"
    fish  add to ~/.config/fish/config.fish:       COMMAND completion fish | source
    """
    root = context.find_root()
    name = root.info_name or ""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(found(root.command, {}, name, f"_{name.upper()}_COMPLETE").source())


@click.command()
@click.pass_context
def manual(context: click.Context) -> None:
    """Print the manual page of this command.

    \b
    to read it:      COMMAND manual | man -l -
    to install it:   COMMAND manual > /usr/local/share/man/man1/COMMAND.1
    """
    root = context.find_root()
    click.echo("\n".join(page(root.command, root.info_name or "")))


def page(command: click.Command, name: str) -> Iterator[str]:
    """The lines of one page about `command` and all that is below it, for man(7)."""
    context = click.Context(command, info_name=name)
    yield f'.TH {name.upper()} 1 "" "gsvrd {__version__}"'
    yield ".nh\n.ad l"
    yield f".SH NAME\n{name} \\- {_text(command.get_short_help_str(200).rstrip('.'))}"
    yield f".SH SYNOPSIS\n.B {_text(_usage(context))}"
    yield ".SH DESCRIPTION"
    yield from _prose(command.help or "")
    yield ".SH OPTIONS"
    yield from _options(context)
    yield ".SH COMMANDS"
    for below in _below(context):
        yield f'.SS "{_text(_usage(below))}"'
        yield from _prose(below.command.help or "")
        yield from _options(below)


def _below(context: click.Context) -> Iterator[click.Context]:
    command = context.command
    for name, child in sorted(command.commands.items()) if isinstance(command, click.Group) else ():
        below = click.Context(child, info_name=name, parent=context)
        if not child.hidden:
            yield below
            yield from _below(below)


def _usage(context: click.Context) -> str:
    return " ".join([context.command_path, *context.command.collect_usage_pieces(context)])


def _prose(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        lines = [_text(line.strip(" ") if "\b" not in paragraph else line) for line in paragraph.split("\n")]
        if lines[0].strip() == "\b":  # click's sign for lines that stay as they are
            yield from (".PP\n.nf", *lines[1:], ".fi")
        else:
            yield from (".PP", *lines)


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None and (context.parent is None or "--help" not in parameter.opts):
            yield f".TP\n.B {_text(record[0])}"
            yield from map(_text, record[1].splitlines())


def _text(line: str) -> str:
    """As itself: no character of it means anything to man, also not at the start of a line."""
    escaped = line.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped
