"""`cls attribute-set load`, as the script of the guide."""

from cls.cli.attribute_set import LOAD
from cls.cli.command import main

if __name__ == "__main__":
    main(LOAD)
