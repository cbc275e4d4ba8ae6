"""The group of commands `offloop`, and the exit code of the process."""

from __future__ import annotations

import logging
import signal
import sys
from importlib.metadata import EntryPoint, entry_points, version

import click

from ..errors import PoolMisused
from .convert import convert
from .doctor import doctor
from .scaffolding.new_plugin import new_plugin

__all__ = ["run"]


class _Commands(click.Group):
    """Commands of offloop, and those of installed distributions, which the entry points "offloop.commands" name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands."""
        return sorted({*super().list_commands(ctx), *_installed()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a command; None if there is none of this name. One that cannot be imported says so when it is used."""
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in _installed():
            entry_point = _installed()[cmd_name]
            try:
                return entry_point.load()
            except ImportError as error:
                return _broken(entry_point, error)
        return found


def _installed() -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group="offloop.commands")}


def _broken(entry_point: EntryPoint, error: ImportError) -> click.Command:
    def refuse(**_options: object) -> None:
        raise click.ClickException(f"the command {entry_point.name!r} ({entry_point.value}) cannot be imported: {error}")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(entry_point.name, callback=refuse, help="(cannot be imported)", context_settings=settings)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("offloop"), message="offloop %(version)s")
def offloop() -> None:
    """Run heavy work in supervised worker processes, over shared memory."""
    if sys.platform != "linux":
        raise click.ClickException(str(PoolMisused("system", "Linux", sys.platform)))


offloop.add_command(convert)
offloop.add_command(doctor)
offloop.add_command(new_plugin)


def run() -> int:
    """Run the command of this process's arguments. Returns the exit code: 2 for bad usage, 130 for Ctrl-C, else the
    command's."""
    logging.getLogger("offloop").addHandler(logging.NullHandler())  # because every command reports errors and warnings itself
    try:
        return int(offloop.main(prog_name="offloop", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # Ctrl-C before the command handles signals
        return 128 + signal.SIGINT
