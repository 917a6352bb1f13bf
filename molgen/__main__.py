"""`python -m molgen` is the command `molgen`."""

import sys

from molgen.cli import main

if __name__ == "__main__":
    sys.exit(main())
