"""The group of commands `offloop`, and the exit code of the process."""

from __future__ import annotations

import logging
import signal
import sys
from importlib.metadata import version

import click

from ..errors import PoolMisused
from .convert import convert
from .doctor import doctor

__all__ = ["run"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("offloop"), message="offloop %(version)s")
def offloop() -> None:
    """Run heavy work in supervised worker processes, over shared memory."""
    if sys.platform != "linux":
        raise click.ClickException(str(PoolMisused("system", "Linux", sys.platform)))


offloop.add_command(convert)
offloop.add_command(doctor)


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
