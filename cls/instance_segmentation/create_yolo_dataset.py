"""`cls yolo dataset`, as the script of the guide."""

from cls.cli.command import main
from cls.cli.yolo import DATASET as COMMAND

if __name__ == "__main__":
    main(COMMAND)
