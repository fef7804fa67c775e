"""`python -m minseg` is the command `minseg`."""

import sys

from minseg.cli import main

sys.exit(main())
