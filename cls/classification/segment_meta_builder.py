"""`cls segment-meta`, as the script of the guide."""

from cls.cli.command import main
from cls.cli.segment_meta import COMMAND

if __name__ == "__main__":
    main(COMMAND)
