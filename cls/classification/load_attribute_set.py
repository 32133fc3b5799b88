"""`cls attribute-set load`, as the script of the guide."""

from cls.cli.attribute_set import LOAD as COMMAND
from cls.cli.command import main

if __name__ == "__main__":
    main(COMMAND)
