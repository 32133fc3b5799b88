"""`cls push-badlist`, as the script of the guide."""

from cls.cli.command import main
from cls.cli.push_badlist import COMMAND

if __name__ == "__main__":
    main(COMMAND)
