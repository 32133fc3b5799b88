"""`cls yolo parse`, as the script of the guide."""

from cls.cli.command import main
from cls.cli.yolo import PARSE as COMMAND

if __name__ == "__main__":
    main(COMMAND)
