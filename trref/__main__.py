"""``python -m trref``: the command."""

import sys

from trref.cli import main

if __name__ == "__main__":
    sys.exit(main())
