"""`cls yolo parse`, as the script of the guide."""

from cls.cli.command import main
from cls.cli.yolo import PARSE

if __name__ == "__main__":
    main(PARSE)
