"""`python -m offloop.cli`, where the script `offloop` is not on the path."""

import sys

from . import main

sys.exit(main())
