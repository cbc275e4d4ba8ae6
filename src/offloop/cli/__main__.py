"""Entry point of `python -m offloop.cli`, which is the same as the script `offloop`."""

import sys

from . import main

sys.exit(main())
