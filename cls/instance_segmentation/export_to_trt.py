"""`cls yolo export`, as the script of the guide."""

from cls.cli.command import main
from cls.cli.yolo import EXPORT as COMMAND

if __name__ == "__main__":
    main(COMMAND)
