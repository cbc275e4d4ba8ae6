"""The entry point that the supervisor starts: four descriptor numbers are its arguments."""

import sys

from .main import main

main([int(argument) for argument in sys.argv[1:]])
