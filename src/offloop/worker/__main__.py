"""The entry point of `python -m offloop.worker`. Its arguments are the numbers of four descriptors."""

from .main import run_from_command_line

run_from_command_line()
