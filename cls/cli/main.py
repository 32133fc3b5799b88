"""The `cls` console command: a list of verbs, nothing else."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from cls.cli.command import Command, Parser, add_common_arguments, run_parsed

# The words typed after `cls` -> where its Command is defined.
VERBS: dict[tuple[str, ...], str] = {
    ("demo",): "cls.cli.demo:COMMAND",
    ("sample", "make"): "cls.cli.sample:MAKE",
    ("collector", "serve"): "cls.cli.collector:SERVE",
    ("load-group",): "cls.cli.load_group:COMMAND",
    ("load-json",): "cls.cli.load_json:COMMAND",
    ("push-badlist",): "cls.cli.push_badlist:COMMAND",
    ("forget",): "cls.cli.forget:COMMAND",
    ("segment",): "cls.cli.segment:COMMAND",
    ("masks",): "cls.cli.masks:COMMAND",
    ("train",): "cls.cli.train:COMMAND",
    ("runs",): "cls.cli.runs:COMMAND",
    ("report",): "cls.cli.report:COMMAND",
    ("export",): "cls.cli.export:COMMAND",
    ("package", "show"): "cls.cli.package:SHOW",
    ("package", "verify"): "cls.cli.package:VERIFY",
    ("package", "vectors"): "cls.cli.package:VECTORS",
    ("package", "rebuild"): "cls.cli.package:REBUILD",
    ("package", "sign"): "cls.cli.package:SIGN",
    ("package", "keygen"): "cls.cli.package:KEYGEN",
    ("infer",): "cls.cli.infer:COMMAND",
    ("segment-meta",): "cls.cli.segment_meta:COMMAND",
    ("post-meta",): "cls.cli.post_meta:COMMAND",
    ("attribute-set", "load"): "cls.cli.attribute_set:LOAD",
    ("attribute-set", "table"): "cls.cli.attribute_set:TABLE",
    ("storage", "serve"): "cls.cli.storage:SERVE",
    ("push",): "cls.cli.storage:PUSH",
    ("yolo", "parse"): "cls.cli.yolo:PARSE",
    ("yolo", "dataset"): "cls.cli.yolo:DATASET",
    ("yolo", "train"): "cls.cli.yolo:TRAIN",
    ("yolo", "export"): "cls.cli.yolo:EXPORT",
    ("doctor",): "cls.cli.doctor:COMMAND",
    ("completion",): "cls.cli.completion:COMMAND",
}

_GROUPS = {
    "sample": "the sample photo set",
    "collector": "the own small collector service",
    "attribute-set": "public attribute sets: PA-100K, PETA, RAPv2",
    "package": "model packages: what is in them, whether they are in order, made again for this machine, signed",
    "storage": "the model storage service",
    "yolo": "training data and training of the person segmenter",
}


def _command(place: str) -> Command:
    module, _, name = place.partition(":")
    command: Command = getattr(import_module(module), name)
    return command


def _verbs_for(arguments: Sequence[str]) -> dict[tuple[str, ...], str]:
    """The verb the arguments name, alone, so that no other one is imported; all of them when they name none."""
    for words, place in VERBS.items():
        if tuple(arguments[: len(words)]) == words:
            return {words: place}
    return VERBS


def build_parser(verbs: dict[tuple[str, ...], str]) -> argparse.ArgumentParser:
    """The parser of `cls` with the given verbs."""
    from cls import __version__

    parser = Parser(
        prog="cls", description="From an annotation service to a served, versioned classifier of people's attributes."
    )
    parser.add_argument("--version", action="version", version=f"cls {__version__}")
    top = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    groups: dict[str, argparse._SubParsersAction[Parser]] = {}
    for words, place in verbs.items():
        command = _command(place)
        target = top
        if len(words) == 2:
            if words[0] not in groups:
                group = top.add_parser(words[0], help=_GROUPS[words[0]], description=_GROUPS[words[0]])
                groups[words[0]] = group.add_subparsers(title="verbs", metavar="VERB", required=True)
            target = groups[words[0]]
        verb = target.add_parser(words[-1], help=command.summary, description=command.summary)
        command.add_arguments(verb)
        add_common_arguments(verb)
        verb.set_defaults(_command=command)
    return parser


def _check_verb(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Ends with the verbs most like the one typed, where there is none of that name."""
    for depth, word in enumerate(words[:2]):
        known = {verb[depth] for verb in VERBS if len(verb) > depth and verb[:depth] == tuple(words[:depth])}
        if word.startswith("-") or not known:
            return
        if word in known:
            continue
        similar = " or ".join(f"`cls {' '.join([*words[:depth], name])}`" for name in get_close_matches(word, known))
        parser.error(
            f"there is no verb '{word}'; {f'did you mean {similar}?' if similar else '`cls --help` lists them'}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `cls VERB ...` and returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(build_parser(VERBS))
    if not words:
        build_parser(VERBS).print_help()
        return 0
    if _verbs_for(words) is VERBS:
        _check_verb(build_parser(VERBS), words)
    options = build_parser(_verbs_for(words)).parse_args(words)
    return run_parsed(options._command, options)


if __name__ == "__main__":
    sys.exit(main())
