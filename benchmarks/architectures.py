"""Which of timm's families can be trained, converted and served? One small member of each, all the way on 40 people.

A family is a module of `timm.models`; its member is the one with the fewest parameters. Each is trained for one step
from random weights (`cls.training.train.train`), exported to ONNX with the parity check, and asked by the run's folder,
by the zip (ONNX Runtime) and by a model storage's embedded engine over HTTP: do the three decide the same?

    python benchmarks/architectures.py WORK [--families NAME ...] [--minutes M] [--workers N] [--again] [--trials]
    python benchmarks/architectures.py --page

Each family has a process forked from this one, which has imported everything; the smoke test of its training run in
that process, and in the product's own one where that crashed. Results are kept in
`benchmarks/results/architectures.json` after every family: it can be interrupted and goes on. The cheapest come first.
`--trials` runs the smoke test alone, which takes seconds a family. `--again` tries those again that did not get
through. Last, `docs/architectures.md` is written; `--page`: only that.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.guide import environment_of, open_bottle, sample_bottle
from cls.bottle.layout import Bottle
from cls.demo.guide_steps import HOST, choose_ports, service
from cls.errors import ClsError
from cls.files import read_json, write_json_atomic, write_text_atomic

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "architectures.json", ROOT / "docs" / "architectures.md"
GROUP = "top_color"
PHOTOS, PEOPLE = 48, 40
MOST_MILLIONS = 120.0
TIMEOUT_S = 900
MODEST_PX = 128
# Probabilities this near to each other are the same number but for the order in which 32-bit sums were added up.
ROUNDING = 1e-6
_MANY = 12
_SMALL = ("test_", "atto", "femto", "pico", "nano", "tiny", "xxs", "_050", "_002", "lite0", "small", "_b0", "_s0", "18")
INTRO = """# Architectures

`cls train --arch` takes any backbone that timm knows ([Train](train.md#choose-the-backbone-and-the-input-size)). This
table has one small member of each of timm's families: whether it can be trained, exported to ONNX and served.

| column | what it says |
|---|---|
| *input* | the input size that was tried; another one may be better |
| *memory format* | what the smoke test of a training chose ([decision 0025](decisions/0025-smoke-test.md)) |
| *trained* | one step from random weights, on people of the sample set |
| *zip = run = server* | whether the package, the run and a server decide 40 people alike |

`-` means not tried, or not reached. `rounding` means that decisions differ only for people whose probability is within
1e-6 of the threshold: correct runtimes that add up in another order can decide them either way.

This page is generated: `python benchmarks/architectures.py WORK` tries the families and writes it.
"""


def families() -> dict[str, list[str]]:
    """Names of models by module of timm.models."""
    import timm
    from timm.models._registry import _model_to_module

    found: dict[str, list[str]] = defaultdict(list)
    for name in timm.list_models():
        found[_model_to_module[name]].append(name)
    return dict(sorted(found.items()))


def smallest(names: list[str]) -> tuple[str, float]:
    """The member with the fewest parameters, and how many millions; of many members, those named as small ones."""
    import timm
    import torch

    small = names
    if len(small) > _MANY:  # building hundreds takes minutes
        small = [name for name in small if any(hint in name for hint in _SMALL)][:_MANY] or small[:_MANY]
    counts = {}
    for name in small:
        try:
            with torch.device("meta"):
                counts[name] = sum(p.numel() for p in timm.create_model(name).parameters()) / 1e6
        except Exception:  # noqa: BLE001 - cannot be built so: another one is taken
            continue
    if not counts:
        return names[0], float("nan")
    return min(counts.items(), key=lambda item: item[1])


def inputs_of(name: str) -> list[tuple[int, int]]:
    """Sizes to try: a modest one where any will do, then the model's own."""
    import timm

    from cls.training.network.build import is_built_for_one_size

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    own = tuple(config.input_size[1:]) if config is not None else (224, 224)
    is_fixed = is_built_for_one_size(name)
    return [own] if is_fixed or own == (MODEST_PX, MODEST_PX) else [(MODEST_PX, MODEST_PX), own]


class Row(dict[str, Any]):
    """What is known of a family; `keep` writes it down, for whoever waits for a process that may crash."""

    def __init__(self, content: dict[str, Any], file: Path) -> None:
        super().__init__(content)
        self._file = file

    def keep(self, **more: Any) -> None:
        """Adds to it, and writes it down."""
        self.update(more)
        write_json_atomic(self._file, dict(self))


def try_family(row: Row, bottle: Bottle, urls: tuple[str, str], version: str) -> dict[str, Any]:
    """Fills the row of one family, of which the member is known."""
    started_s = time.monotonic()
    name = row["model"]
    for size in inputs_of(name):
        row.keep(input=f"{size[0]}x{size[1]}", note="")
        try:
            _go_through(row, bottle, size, urls, version)
        except ClsError as error:
            row["note"] = error.line()
        except Exception as error:  # noqa: BLE001 - a traceback at the user: ours to repair
            row["note"] = f"TRACEBACK {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if row.get("train"):
            break
    return {**row, "seconds": round(time.monotonic() - started_s)}


def member_of(names: list[str]) -> dict[str, Any]:
    """The member of a family that is tried; a note where it is too large."""
    name, millions = smallest(names)
    row: dict[str, Any] = {"model": name, "parameters_m": millions, "members": len(names)}
    if millions > MOST_MILLIONS:
        return {**row, "note": f"not tried: the smallest member has {millions:.0f} M parameters"}
    return row


@contextmanager
def smoke_test_in_this_process(test: Any) -> Iterator[Any]:
    """Stands for `smoke_test.RunningSmokeTest`, whose process imports torch anew for every family."""

    def memory_format() -> str:
        from cls.errors import NetworkError
        from cls.training.network.smoke_test import FORMATS
        from cls.training.network.smoke_test_child import failure_of

        for name in FORMATS:
            failure = failure_of(test, name)
            if failure is None:
                return name
        raise NetworkError(f"backbone {test.timm_arch} cannot be trained: {failure['what'] if failure else ''}")

    yield SimpleNamespace(memory_format=memory_format)


def try_steps(names: list[str]) -> dict[str, Any]:
    """The smoke test of one family's member alone, as the product's child process runs them."""
    from cls.training.config import TrainConfig
    from cls.training.network.smoke_test import FORMATS, SmokeTest
    from cls.training.network.smoke_test_child import failure_of

    row = member_of(names)
    name = row["model"]
    if "note" in row:
        return row
    for size in inputs_of(name):
        config = TrainConfig(GROUP, batch=2, arch=name, height_px=size[0], width_px=size[1], weights="none")
        test = SmokeTest(config=config, timm_arch=name, outputs=4, is_pretrained=False)
        row |= {"input": f"{size[0]}x{size[1]}"}
        for memory_format in FORMATS:
            failure = failure_of(test, memory_format)
            if failure is None:
                return {**row, "memory_format": memory_format, "note": ""}
            row["note"] = failure["what"]
    return row


def _go_through(row: Row, bottle: Bottle, size: tuple[int, int], urls: tuple[str, str], version: str) -> None:
    import numpy as np
    from filelock import FileLock

    from cls.exporting.publish import ExportConfig, export_run
    from cls.people.photos import read_photo
    from cls.runtimes.open import open_classifier
    from cls.training.config import TrainConfig
    from cls.training.train import train

    config = TrainConfig(
        GROUP, epochs=1, batch=8, arch=row["model"], height_px=size[0], width_px=size[1], weights="none",
        valid=PEOPLE / PHOTOS, backgrounds=0, background_people=0,
    )  # fmt: skip
    run = train(bottle, config, resume=False)
    row.keep(train=True, memory_format=run.args.memory_format)
    exported = export_run(bottle, run, ExportConfig(("onnx",), required=("onnx",)))
    row.keep(onnx=True)
    people = [*run.validation_samples(), *run.samples("train")][:PEOPLE]
    row["people"] = len(people)
    crops = np.stack(
        [run.preprocessing.cut(read_photo(bottle.picture(sample.path)), sample.person) for sample in people]
    )
    package = exported.folder / "model_onnx.zip"
    decided, given = {}, []
    # Two workers publish under one name: nobody else may until this one has its answers.
    with FileLock(bottle.root.parent / "server.lock"):
        for way, model in (
            ("zip", str(package)),
            ("run", str(run.folder)),
            ("server", _served(package, urls, version)),
        ):
            classifier = open_classifier(model, bottle)
            probs = classifier.probabilities(crops)
            given.append(probs.astype(np.float64))
            decided[way] = [classifier.chosen(row_probs) for row_probs in probs]
    changed = sum(len(set(answers)) > 1 for answers in zip(*decided.values(), strict=True))
    row["same"] = not changed
    if changed:
        above = np.stack(given) >= np.asarray(run.thresholds)
        far = np.abs(np.stack(given) - np.asarray(run.thresholds)).max(axis=0)[above.any(axis=0) != above.all(axis=0)]
        row |= {"differ": changed, "distance": float(far.max())}


def _served(package: Path, urls: tuple[str, str], version: str) -> str:
    """Publishes a package; the URL it is served at."""
    import httpx

    storage, inference = urls
    with package.open("rb") as stream:
        answer = httpx.post(
            f"{storage}/upload_new_version/",
            data={"model_name": GROUP, "model_version": version},
            files={"src_file": (package.name, stream, "application/x-zip-compressed")},
            timeout=120,
        )
    if answer.status_code != 200:
        raise ClsError(f"the model storage refuses the package: {answer.text[:200]}")
    return f"{inference}/v2/models/{GROUP}"


class Worker:
    """Cores, a copy of the bottle, and the process that tries one family there: a crash ends nothing but itself."""

    def __init__(self, number: int, work: Path, bottle: Path, *, is_alone: bool = True) -> None:
        self.file, self.root = work / f"row-{number}.json", work / f"worker-{number}"
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(bottle, self.root)
        known = sorted(os.sched_getaffinity(0))
        self._cores = known if is_alone else [known[number % len(known)]]
        self.pid, self.family, self.is_second = 0, "", False

    def start(
        self, family: str, row: dict[str, Any], work: Callable[[Row], dict[str, Any]], *, is_second: bool
    ) -> None:
        """Forks."""
        self.family, self.is_second = family, is_second
        write_json_atomic(self.file, row)
        self.pid = os.fork()
        if self.pid:
            return
        os.sched_setaffinity(0, self._cores)
        signal.alarm(TIMEOUT_S)
        logging.disable(logging.WARNING)
        write_json_atomic(self.file, work(Row(row, self.file)))
        os._exit(0)

    def row(self, status: int) -> dict[str, Any]:
        """What its process, which has ended, has found."""
        self.pid = 0
        found: dict[str, Any] = read_json(self.file)
        if status == 0:
            return found
        if not os.WIFSIGNALED(status):
            return {**found, "note": f"ended with status {os.waitstatus_to_exitcode(status)}"}
        number = os.WTERMSIG(status)
        if number == signal.SIGALRM:
            return {**found, "note": f"ran out of time ({TIMEOUT_S} s)", "unfinished": True}
        # SIGKILL is what the system sends to the process that has most memory where there is none left.
        if number == signal.SIGKILL:
            return {**found, "note": "ran out of memory", "crashed": True, "unfinished": True}
        return {**found, "note": f"crashed with {signal.Signals(number).name}", "crashed": True}


def page(results: dict[str, Any]) -> str:
    """The page of documentation."""
    rows, trials, names = results["rows"], results["trials"], results["families"]
    lines = [
        INTRO,
        "| family | model | M parameters | input | memory format | smoke test | trained | ONNX | zip = run = server |",
        "|" + "---|" * 9,
    ]
    notes = []
    for family in names:
        row = rows.get(family, {})
        trial = {key: value for key, value in trials.get(family, {}).items() if not (row and key == "note")}
        known = {**trial, **row}
        if not known:
            continue
        note = known.get("note") or _difference(row)
        if note:
            notes.append(textwrap.fill(f"- `{family}`, {known.get('model', '-')}: {note}", 120))
        has_trial = bool(known.get("memory_format"))
        steps = "passed" if has_trial else "failed" if "input" in known else "-"
        count = known.get("parameters_m")
        cells = [
            family, known.get("model", "-"), f"{count:.1f}" if isinstance(count, float) else "-",
            known.get("input", "-"), known.get("memory_format", "-"), steps, *_marks(row),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    tried = [name for name in names if "input" in rows.get(name, {})]
    late = [name for name in tried if rows[name].get("unfinished")]
    same = [name for name in tried if rows[name].get("same")]
    rounded = [name for name in tried if _is_rounding(rows[name])]
    only = [name for name in names if name not in tried and "input" in trials.get(name, {})]
    missing = [name for name in names if name not in rows and name not in trials]
    lines += [
        "",
        _summary(len(names), len(tried), len(same), len(rounded), len(late)),
    ]
    if notes:
        lines += ["", "## Notes", "", *notes]
    if only:
        lines += ["", "## Smoke tests only", "", _listed(only)]
    if missing:
        lines += ["", "## Not tried", "", _listed(missing)]
    return "\n".join(lines) + "\n"


def _summary(names: int, tried: int, same: int, rounded: int, late: int) -> str:
    more = f", {rounded} but for rounding" if rounded else ""
    more += f", {late} ran out of time or memory" if late else ""
    return f"Of timm's {names} families {tried} were tried all the way: {same} decide the same{more}."


def _is_rounding(row: dict[str, Any]) -> bool:
    return 0 < row.get("distance", 0.0) <= ROUNDING


def _difference(row: dict[str, Any]) -> str:
    """What it means that decisions differ; empty where none do."""
    if not row.get("differ"):
        return ""
    told = f"{row['differ']} of {row['people']} people decided on differently; probability and threshold are at most "
    if not _is_rounding(row):
        return f"{told}{row['distance']:.1e} apart."
    return (
        f"{told}{row['distance']:.1e} apart, which is within the rounding of 32-bit arithmetic: correct runtimes can "
        "decide this either way."
    )


def _marks(row: dict[str, Any]) -> list[str]:
    """`yes`, `no` for what failed, `-` for what was not reached, `rounding` where nothing else changes decisions."""
    marks = []
    is_failed = "input" in row and not row.get("unfinished")
    for key in ("train", "onnx", "same"):
        marks.append("yes" if row.get(key) else "no" if is_failed else "-")
        is_failed = is_failed and bool(row.get(key))
    if _is_rounding(row):
        marks[-1] = "rounding"
    return marks


def _listed(names: list[str]) -> str:
    return textwrap.fill(", ".join(f"`{name}`" for name in names) + ".", 120, break_on_hyphens=False)


def read_results() -> dict[str, Any]:
    """What is known so far."""
    found: dict[str, Any] = {"families": [], "rows": {}, "trials": {}}
    return found | (read_json(RESULTS) if RESULTS.exists() else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--families", nargs="*", default=[])
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--trials", action="store_true")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    results = read_results()
    if options.trials:
        measure_trials(options, results)
    elif not options.page:
        measure(options, results)
    write_text_atomic(PAGE, page(results))


def measure_trials(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Runs the smoke test of every family that has none, and keeps each result as it comes."""
    import cls.training.network.smoke_test_child  # noqa: F401 - once, for all processes forked from here

    known = families()
    results["families"] = list(known)
    worker = Worker(0, options.work, sample_bottle(options.work, photos=PHOTOS, seed=1, groups=(GROUP,))[0].root)
    for family, names in known.items():
        if family not in results["trials"]:
            worker.start(family, {}, lambda _, n=names: try_steps(n), is_second=False)  # type: ignore[misc]
            results["trials"][family] = worker.row(os.waitpid(worker.pid, 0)[1])
            write_json_atomic(RESULTS, results, indent=1)
            print(family, json.dumps(results["trials"][family], ensure_ascii=False), flush=True)


def measure(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Tries what has not been tried, and keeps each row as it comes."""
    import cv2
    import timm
    import torch

    cv2.setNumThreads(1)  # the photos may be drawn here; threads of OpenCV would not survive the forks
    known = families()
    results |= {"families": list(known), "torch": torch.__version__, "timm": timm.__version__}
    bottle, _ = sample_bottle(options.work, photos=PHOTOS, seed=1, groups=(GROUP,))
    _import_everything(options.work)
    ports = choose_ports()
    storage = options.work / "storage"
    shutil.rmtree(storage, ignore_errors=True)
    words = ["storage", "serve", "--root", str(storage), "--port", str(ports.storage), "--ssh-port", str(ports.ssh)]
    urls = (f"http://{HOST}:{ports.storage}", f"http://{HOST}:{ports.inference}")
    workers = [
        Worker(number, options.work, bottle.root, is_alone=options.workers == 1) for number in range(options.workers)
    ]
    with service(
        "model storage", [*words, "--infer-port", str(ports.inference)], (ports.storage, ports.inference),
        options.work / "storage.log", environment_of(bottle.root),
    ):  # fmt: skip
        _try_all(_wanted(options, results, known), workers, urls, time.monotonic() + options.minutes * 60, results)


def _import_everything(work: Path) -> None:
    """Once, for all processes forked from here. No thread may have been started by then."""
    import torch

    torch.set_num_threads(1)
    torch.onnx.export(
        torch.nn.Linear(2, 2).eval(), (torch.zeros(1, 2),), str(work / "linear.onnx"), dynamo=True, verbose=False
    )


def _wanted(
    options: argparse.Namespace, results: dict[str, Any], known: dict[str, list[str]]
) -> list[tuple[str, dict[str, Any]]]:
    """The families to try, each with the member to try, the cheapest first."""
    wanted = []
    for family, names in known.items():
        row = results["rows"].get(family)
        if (
            family not in options.families
            if options.families
            else not (row is None or (options.again and not row.get("same")))
        ):
            continue
        trial = results["trials"].get(family, {})
        keys = ("model", "parameters_m", "members", "memory_format") + (() if "input" in trial else ("note",))
        member = {key: trial[key] for key in keys if key in trial} if "model" in trial else member_of(names)
        side_px = float(trial.get("input", "224x224").split("x")[0])
        wanted.append(((float(member["parameters_m"]) + 5) * side_px**2, family, member))
    return [(family, member) for _, family, member in sorted(wanted, key=lambda item: item[:2])]


def _try_all(
    wanted: list[tuple[str, dict[str, Any]]],
    workers: list[Worker],
    urls: tuple[str, str],
    end_s: float,
    results: dict[str, Any],
) -> None:
    """Keeps every worker at work; a family whose process crashes is tried once more, with a smoke test of its own."""
    import cls.training.data

    smoke_test_in_a_child = cls.training.data.RunningSmokeTest  # type: ignore[attr-defined]
    members = dict(wanted)
    left = [(family, False) for family, member in wanted if "note" not in member]
    for family, member in wanted:
        if "note" in member:
            results["rows"][family] = member
    while left or any(worker.pid for worker in workers):
        for worker in workers:
            if worker.pid or not left or time.monotonic() > end_s:
                continue
            family, is_second = left.pop(0)
            shutil.rmtree(worker.root / "models", ignore_errors=True)
            version = f"1.{int(time.time()) % 100000}.{workers.index(worker)}"
            bottle = open_bottle(worker.root)
            cls.training.data.RunningSmokeTest = smoke_test_in_a_child if is_second else smoke_test_in_this_process  # type: ignore[attr-defined]
            worker.start(
                family, members[family], lambda row, b=bottle, v=version: try_family(row, b, urls, v),  # type: ignore[misc]
                is_second=is_second,
            )  # fmt: skip
        if not any(worker.pid for worker in workers):
            break
        pid, status = os.wait()
        worker = next((one for one in workers if one.pid == pid), None)
        if worker is None:
            continue
        row = worker.row(status)
        if row.pop("crashed", False) and not worker.is_second:
            left.insert(0, (worker.family, True))
            print(worker.family, json.dumps(row, ensure_ascii=False), "once more", flush=True)
            continue
        results["rows"][worker.family] = row
        write_json_atomic(RESULTS, results, indent=1)
        print(worker.family, json.dumps(row, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
