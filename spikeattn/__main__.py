"""`python -m spikeattn`: the command line, for torchrun and for interpreters whose scripts are not on the PATH."""

import sys

from spikeattn.cli import main

if __name__ == "__main__":
    sys.exit(main())
