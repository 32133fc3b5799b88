"""`cls completion`: what a shell needs to complete verbs and options with the tab key."""

from __future__ import annotations

import argparse

from cls.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls completion`."""
    parser.description = (
        'print the completion of verbs and options for a shell: eval "$(cls completion bash)" in ~/.bashrc, the same'
        " with zsh in ~/.zshrc, cls completion fish | source in config.fish"
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="SHELL", help="bash, zsh or fish")


def run(options: argparse.Namespace) -> None:
    """Prints the shell's code."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["cls"], shell=options.shell))


COMMAND = Command("completion", "print what a shell needs to complete verbs and options", add_arguments, run)
