"""Which tests reach which line of a room, and tests in a forked process."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import resource
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_MEMORY_BYTES = 12 << 30  # a mutant that allocates without end ends itself
_AT_IMPORT = "import"
STOPPED = threading.Event()  # set when the run is interrupted: whoever waits for a child ends it and stops


@dataclass(frozen=True)
class Reached:
    """Tests of a room by the lines that they reach.

    Attributes:
        tests: By module and line (as text), the tests that run it; under `import`, those whose file names the module.
        seconds: How long each test took.
        libraries: Modules of other projects that the tests import.
        failing: Tests that fail without any change: they are left out.
    """

    tests: dict[str, dict[str, list[str]]]
    seconds: dict[str, float]
    libraries: list[str]
    failing: list[str]

    def tests_of(self, module: str, source: str, line: int, first: str = "") -> list[str]:
        """Tests that can notice a change of a line, the quick ones first.

        What is run at import (constants, defaults, decorators) is noticed by whatever uses the module.
        """
        lines = self.tests.get(module, {})
        wanted = _statement(source, line)
        names = {name for number in wanted or () for name in lines.get(str(number), ())}
        if wanted is None:
            names = {name for tests in lines.values() for name in tests}
        return sorted(names & set(self.seconds), key=lambda name: (name != first, self.seconds[name], name))


def _statement(source: str, line: int) -> range | None:
    """Lines of the statement of a function that a line belongs to; None where it runs at import."""
    found: range | None = None
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for part in function.body if isinstance(function.body, list) else [function.body]:
            for node in ast.walk(part):
                if not isinstance(node, ast.stmt | ast.ExceptHandler) and node is not function.body:
                    continue
                body = getattr(node, "body", None)
                end = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno or node.lineno
                span = range(node.lineno, max(end, node.lineno) + 1)
                if line in span and (found is None or len(span) <= len(found)):
                    found = span
    return found


def find_reached(copy: Path, paths: list[str], modules: list[str], file: Path) -> Reached:
    """Runs a room's tests once, measured; `file` keeps what was found."""
    if file.exists():
        return Reached(**json.loads(file.read_text()))
    print("running the room's tests once to see what they reach", flush=True)
    plugin = _Measuring(copy, modules)
    (copy / ".measured").mkdir(exist_ok=True)
    code, _ = _in_child(lambda: _measured(copy, paths, plugin), limit_s=3600)
    written = copy / ".measured" / "reached.json"
    if not written.exists():
        raise SystemExit(f"error: the room's tests could not be run (exit status {code})")
    found = Reached(**json.loads(written.read_text()))
    if found.failing:
        print(f"these tests fail without any change and are left out: {', '.join(found.failing)}", flush=True)
    if not found.seconds:
        raise SystemExit(f"error: no tests in {', '.join(paths)}")
    file.write_text(json.dumps(asdict(found)))
    return found


def _measured(copy: Path, paths: list[str], plugin: _Measuring) -> int:
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return _pytest(copy, [*paths, "-m", "not long"], plugin, "-q")


class _Measuring:
    """Counts lines for one test at a time, in processes that tests start too."""

    def __init__(self, copy: Path, modules: list[str]) -> None:
        self.copy, self.modules = copy, modules
        self.seconds: dict[str, float] = defaultdict(float)
        self.failing: set[str] = set()

    def pytest_configure(self) -> None:
        import coverage

        settings = self.copy / ".measured" / "coveragerc"
        include = ",".join(str(self.copy / module) for module in self.modules)
        settings.write_text(
            f"[run]\nparallel=true\nsigterm=true\ninclude={include}\n"
            f"data_file={self.copy / '.measured' / 'data'}\ncontext=${{MUTANTS_TEST-}}\n"
        )
        self.coverage = coverage.Coverage(config_file=str(settings))
        self.coverage.start()
        os.environ["COVERAGE_PROCESS_START"] = str(settings)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        os.environ["MUTANTS_TEST"] = nodeid
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failing.add(report.nodeid)
        if report.skipped:
            self.seconds.pop(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        os.environ.pop("COVERAGE_PROCESS_START")
        self.coverage.stop()
        self.coverage.save()
        self.coverage.combine()
        data = self.coverage.get_data()
        tests = {}
        for module in self.modules:
            lines = data.contexts_by_lineno(str(self.copy / module))
            tests[module] = {_AT_IMPORT: self._importing(module)} | {
                str(line): sorted(name.strip("|") for name in names if name) for line, names in lines.items()
            }
        seconds = {name: value for name, value in self.seconds.items() if name not in self.failing}
        found = Reached(tests, seconds, _libraries(), sorted(self.failing))
        (self.copy / ".measured" / "reached.json").write_text(json.dumps(asdict(found)))

    def _importing(self, module: str) -> list[str]:
        """Tests of the files that name a module: of constants and types no test may reach a line of a function."""
        dotted = module.removesuffix(".py").replace("/", ".")
        parent, _, own = dotted.rpartition(".")
        pattern = re.compile(rf"{re.escape(dotted)}\b|from {re.escape(parent)} import .*\b{own}\b")
        files = {name.split("::", 1)[0] for name in self.seconds}
        naming = {file for file in files if pattern.search((self.copy / file).read_text())}
        return sorted(name for name in self.seconds if name.split("::", 1)[0] in naming)


def _libraries() -> list[str]:
    """Modules of other projects; ultralytics is left out: it sets up its process when it is imported."""
    files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    return [name for name, file in files.items() if "site-packages" in file and not name.startswith("ultralytics")]


def run_forked(copy: Path, tests: list[str], limit_s: float) -> tuple[str, str]:
    """Runs tests in the order given until one fails.

    Returns:
        The verdict (killed, timeout, survived) and the test that failed.
    """
    files = list(dict.fromkeys(name.split("::", 1)[0] for name in tests))
    said = copy / ".measured" / f"failed-{time.monotonic_ns()}"
    said.parent.mkdir(exist_ok=True)
    code, _ = _in_child(lambda: _pytest(copy, files, _Chosen(tests, said), "-x"), limit_s)
    failed = said.read_text() if said.exists() else ""
    said.unlink(missing_ok=True)
    if code is None:
        return "timeout", ""
    if code == 5:
        raise SystemExit(f"error: none of the tests was found: {', '.join(tests[:3])}")
    return ("survived", "") if code == 0 else ("killed", failed)


class _Chosen:
    """Runs the named tests alone, in their order, and writes down the first that fails."""

    def __init__(self, tests: list[str], said: Path) -> None:
        self.place, self.said = {name: place for place, name in enumerate(tests)}, said

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place), key=lambda item: self.place[item.nodeid]
        )

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.said.exists():
            self.said.write_text(report.nodeid)


def _pytest(copy: Path, paths: list[str], plugin: object, *options: str) -> int:
    import pytest

    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    sys.path[:] = [str(copy), *(entry for entry in sys.path if entry != str(Path(__file__).parent))]
    return int(pytest.main(["-p", "no:xdist", *options, *paths], plugins=[plugin]))


def _in_child(work: Callable[[], int], limit_s: float) -> tuple[int | None, float]:
    """Exit status of what a forked process of its own session does; None where it took longer than the limit."""
    sys.stdout.flush()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 3
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
            silence = os.open(
                os.environ.get("MUTANTS_OUTPUT", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
            )
            for stream in (1, 2):
                os.dup2(silence, stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            code = work()
        except BaseException:  # noqa: BLE001 - a forked process must not go on with its parent's work
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    code = None
    with _ended(child):
        while time.monotonic() - began < limit_s:
            if STOPPED.is_set():
                raise SystemExit(130)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                break
            time.sleep(0.02)
    return code, time.monotonic() - began


@contextlib.contextmanager
def _ended(child: int) -> Iterator[None]:
    """Whatever happens, a child and what it started are gone afterwards."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
