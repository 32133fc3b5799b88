"""`cls yolo train`, as the script of the guide."""

from cls.cli.command import main
from cls.cli.yolo import TRAIN as COMMAND

if __name__ == "__main__":
    main(COMMAND)
