"""Mutation testing: small changes of a room's code that its tests should notice, and a list of those that they did not.

Every mutant is tested in a process forked from one that has the heavy libraries, on a copy of the working tree, and
only by the tests that reach the changed line; the first failing test ends it. An interrupted run is resumed.

    make mutants ROOM=people [N=100] [SEED=1] [JOBS=1] [MODULES="cls/people/preprocess.py …"]

Rooms are listed in rooms.toml, mutants that no test can notice in equivalent.toml, each with its reason.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

from operators import Mutant, mutants_of
from reached import STOPPED, Reached, find_reached, run_forked

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
_ENVIRONMENT = {  # one commit gives one result, and what was compiled before a change is never taken for it
    "REPEATABLE_TESTS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "YOLO_OFFLINE": "True",
    "YOLO_AUTOINSTALL": "False",
}


@dataclass(frozen=True)
class Result:
    """What the tests said of one mutant: `verdict` is killed, timeout, survived or not reached."""

    mutant: Mutant
    verdict: str
    test: str
    seconds: float
    diff: str
    reason: str

    @property
    def is_killed(self) -> bool:
        """Whether a test noticed."""
        return self.verdict in ("killed", "timeout")


def main() -> int:
    """Draws, runs, lists."""
    options = _options()
    room = tomllib.loads((HERE / "rooms.toml").read_text())[options.room]
    modules = options.modules.split() or [
        str(path.relative_to(REPOSITORY)) for pattern in room["modules"] for path in sorted(REPOSITORY.glob(pattern))
    ]
    os.environ.update(_ENVIRONMENT)
    drawn = _draw(modules, options.n, options.seed)
    cache = REPOSITORY / ".cache" / "mutants"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [_copy(Path(folder) / f"{number}" / "cls") for number in range(options.jobs)]
        content = _content(copies[0], room, modules)
        tests = [str(path.relative_to(REPOSITORY)) for name in room["tests"] for path in sorted(REPOSITORY.glob(name))]
        reached = find_reached(copies[0], tests, modules, cache / f"{options.room}-{content[:16]}.json")
        for library in reached.libraries:  # once, here: every forked process has them
            with contextlib.suppress(Exception):
                importlib.import_module(library)
        log = cache / f"{options.room}-{options.n}-{options.seed}.jsonl"
        results = _run(drawn, copies, reached, _Log(log, content))
    _write_summary(options, modules, results, cache)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", choices=sorted(tomllib.loads((HERE / "rooms.toml").read_text())))
    parser.add_argument("-n", type=int, default=100, help="how many mutants are drawn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="mutants tested at a time (default: %(default)s)")
    parser.add_argument("--modules", default="", help="these modules alone, instead of the whole room's")
    return parser.parse_args()


def _draw(modules: list[str], count: int, seed: int) -> list[tuple[Mutant, str]]:
    """A seeded sample with one mutant at a place at most, so that a `+` counts no more than a `not`."""
    sources = {module: (REPOSITORY / module).read_text() for module in modules}
    places = [mutants for module in modules for mutants in mutants_of(module, sources[module]).values()]
    chance = random.Random(seed)
    chance.shuffle(places)
    drawn: list[tuple[Mutant, str]] = []
    for place in places:
        if len(drawn) == count:
            break
        mutant = chance.choice(place)
        changed = mutant.apply(sources[mutant.module])
        if changed is not None:
            drawn.append((mutant, changed))
    return drawn


def _copy(folder: Path) -> Path:
    """The working tree without what git ignores."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=REPOSITORY, check=True, capture_output=True).stdout.decode().split("\0"):
        if name and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def _content(copy: Path, room: dict[str, list[str]], modules: list[str]) -> str:
    digest = hashlib.sha256(json.dumps([room, modules]).encode() + (HERE / "reached.py").read_bytes())
    for path in sorted(path for part in ("cls", "tests") for path in (copy / part).rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(copy)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


class _Log:
    """What was found before: a run of the same code and tests is resumed, another asks the earlier killer first."""

    def __init__(self, file: Path, content: str) -> None:
        self.file, self.content = file, content
        self.done: dict[str, dict[str, Any]] = {}
        self.killer: dict[str, str] = {}
        self.equivalent = _equivalent()
        for line in file.read_text().splitlines() if file.exists() else []:
            entry = json.loads(line)
            self.killer[entry["diff"]] = entry["test"]
            if entry["content"] == content:
                self.done[entry["diff"]] = entry

    def add(self, result: Result) -> None:
        entry = {"content": self.content, "diff": result.diff, "verdict": result.verdict, "test": result.test}
        with self.file.open("a") as file:
            file.write(json.dumps(entry | {"seconds": round(result.seconds, 1)}) + "\n")


def _run(drawn: list[tuple[Mutant, str]], copies: list[Path], reached: Reached, log: _Log) -> list[Result]:
    free: Queue[Path] = Queue()
    for copy in copies:
        free.put(copy)

    def run_one(drawn_one: tuple[Mutant, str]) -> Result:
        mutant, changed = drawn_one
        copy = free.get()
        try:
            return _test(mutant, changed, copy, reached, log)
        finally:
            free.put(copy)

    results = []
    with ThreadPoolExecutor(len(copies)) as pool:
        try:
            for number, result in enumerate(pool.map(run_one, drawn), 1):
                results.append(result)
                mark = f"{result.verdict:11}" + (" (named equivalent)" if result.reason else "")
                print(f"{number:4}/{len(drawn)} {mark} {result.seconds:5.1f} s  {_place(result)}", flush=True)
                if not result.is_killed:
                    print(_changed_lines(result.diff), flush=True)
        except KeyboardInterrupt:
            STOPPED.set()
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _test(mutant: Mutant, changed: str, copy: Path, reached: Reached, log: _Log) -> Result:
    file = copy / mutant.module
    original, stamps = file.read_bytes(), file.stat()
    lines = difflib.unified_diff(original.decode().splitlines(), changed.splitlines(), mutant.module, n=0, lineterm="")
    diff = "\n".join(lines)
    reason = log.equivalent.get((mutant.module, _changed_lines(diff)), "")
    if diff in log.done:
        before = log.done[diff]
        return Result(mutant, before["verdict"], before["test"], before["seconds"], diff, reason)
    tests = reached.tests_of(mutant.module, original.decode(), mutant.line, first=log.killer.get(diff, ""))
    began = time.monotonic()
    if not tests:
        verdict, test = "not reached", ""
    else:
        try:
            file.write_text(changed)
            os.utime(file, ns=(stamps.st_atime_ns, stamps.st_mtime_ns + 2_000_000_000))
            verdict, test = run_forked(copy, tests, limit_s=60 + 10 * sum(reached.seconds[name] for name in tests))
        finally:
            file.write_bytes(original)
            os.utime(file, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
    result = Result(mutant, verdict, test, time.monotonic() - began, diff, reason)
    log.add(result)
    return result


def _equivalent() -> dict[tuple[str, str], str]:
    """Reasons of the mutants that no test can notice, by module and changed lines, wherever in the module they are."""
    named = tomllib.loads((HERE / "equivalent.toml").read_text()).get("mutant", [])
    return {(entry["module"], _changed_lines(entry["diff"])): entry["reason"] for entry in named}


def _changed_lines(diff: str) -> str:
    lines = [line for line in diff.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    return "\n".join(f"{line[:1]} {line[1:].strip()}" for line in lines)


def _place(result: Result) -> str:
    return f"{result.mutant.module}:{result.mutant.line} {result.mutant.operator} {result.test}"


def _write_summary(options: argparse.Namespace, modules: list[str], results: list[Result], cache: Path) -> None:
    survivors = [result for result in results if not result.is_killed and not result.reason]
    equivalent = [result for result in results if not result.is_killed and result.reason]
    for result in results:
        if result.is_killed and result.reason:
            print(f"{_place(result)}: is named equivalent in equivalent.toml, and a test notices it: take it out")
    text = "\n\n".join(f"{_place(result)} ({result.verdict})\n{_changed_lines(result.diff)}" for result in survivors)
    (cache / f"{options.room}-survivors.txt").write_text(text + "\n")
    killed, timeouts = sum(r.is_killed for r in results), sum(r.verdict == "timeout" for r in results)
    minutes = sum(result.seconds for result in results) / 60
    print("| room | modules | mutants | killed (of them by time) | equivalent | killed, percent | minutes | seed |")
    print(
        f"| {options.room} | {len(modules)} | {len(results)} | {killed} ({timeouts}) | {len(equivalent)} "
        f"| {100 * killed / max(1, len(results)):.0f} | {minutes:.0f} | {options.seed} |"
    )
    print(f"survivors: {cache.relative_to(REPOSITORY) / f'{options.room}-survivors.txt'}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)
