"""`cls demo`: what `make demo` runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `cls demo`."""
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where everything goes (default: demo)")
    parser.add_argument("--source", type=Path, help="folder of labelled photos (default: the sample set, made)")
    parser.add_argument("--group", help="group of labels to train (default: top_color of the sample set)")
    parser.add_argument("--segmenter", type=Path, help="YOLO segmentation model (default: the sample set's)")
    parser.add_argument("--limit", type=int, help="take only so many photos of the source")


def run(options: argparse.Namespace) -> None:
    """Runs the demonstration and prints what was made and where."""
    import signal

    from cls.demo.guide_run import plan_demo, run_guide
    from cls.demo.page import summary_lines, write_page

    # Ends the services and the step that runs, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = plan_demo(
        options.folder, group=options.group, source=options.source, segmenter=options.segmenter, limit=options.limit
    )
    finished = run_guide(plan)
    page = write_page(finished)
    print("\n" + "\n".join(summary_lines(finished, page)))


COMMAND = Command("demo", "the whole guide on a sample photo set, end to end", add_arguments, run)
