"""`cls forget`, as the script of the guide."""

from cls.cli.command import main
from cls.cli.forget import COMMAND

if __name__ == "__main__":
    main(COMMAND)
