"""`cls load-group`, as the script of the guide."""

from cls.cli.command import main
from cls.cli.load_group import COMMAND

if __name__ == "__main__":
    main(COMMAND)
