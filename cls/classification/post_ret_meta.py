"""`cls post-meta`: sends predictions (ret_meta.json) to the collector, each version once."""

from __future__ import annotations

import argparse

from cls.command import Command, main
from cls.wording import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls post-meta`."""
    parser.add_argument("--groups", nargs="+", required=True, metavar="G", help="groups whose picsets are sent")
    parser.add_argument("--dry-run", "--dry_run", action="store_true", help="show what would be sent, and send nothing")


def run(options: argparse.Namespace) -> None:
    """Sends, or shows, what the collector has not been sent yet."""
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    from cls.bottle.layout import Bottle
    from cls.collector.client import CollectorClient
    from cls.prediction.write_back import read_ret_metas, send, unsent

    bottle = Bottle(settings)
    ret_metas = read_ret_metas(bottle, list(dict.fromkeys(options.groups)))
    with CollectorClient.from_settings(settings) as collector:
        waiting = unsent(bottle, collector.url, ret_metas)
        if options.dry_run:
            for ret_meta in waiting:
                print(f"would send {ret_meta.summary()}")
            known = len(ret_metas) - len(waiting)
            print(f"{counted(len(waiting), 'picset')} would be sent to {collector.url}, {known} were sent before")
            return
        if waiting:
            collector.login()
        summary = send(bottle, collector, ret_metas)
    print(f"{counted(summary.sent, 'picset')} sent to {collector.url}, {summary.known} were sent before")


COMMAND = Command("post-meta", "send predictions to the collector", add_arguments, run)

if __name__ == "__main__":
    main(COMMAND)
