"""The entry point of `python -m offloop.worker`; the numbers of four descriptors are its arguments."""

from .main import run_from_command_line

run_from_command_line()
