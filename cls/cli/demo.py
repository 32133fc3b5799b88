"""`cls demo`: what `make demo` runs."""

from __future__ import annotations

import argparse

from cls.cli.command import Command, add_options, given
from cls.demo.config import DemoOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `cls demo`."""
    add_options(parser, DemoOptions)


def run(options: argparse.Namespace) -> None:
    """Runs the demonstration and prints what was made and where."""
    chosen = DemoOptions(**given(options, DemoOptions))
    import signal

    from cls.demo.guide_run import plan_demo, run_guide
    from cls.demo.page import summary_lines, write_page

    # Ends the services and the step that runs, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    finished = run_guide(plan_demo(chosen))
    page = write_page(finished)
    print("\n" + "\n".join(summary_lines(finished, page)))


COMMAND = Command("demo", "the whole guide on a sample photo set, end to end", add_arguments, run, extra="all")
