"""`python -m cls`: the console command `cls`."""

import sys

from cls.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
