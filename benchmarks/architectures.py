"""Which of timm's families can be trained, converted and served? One small member of each, all the way on 40 people.

A family is a module of `timm.models`; its member is the one with the fewest parameters. Each is trained for one step
from random weights (`cls.training.train.train`), exported to ONNX with the parity gate, and asked by the run's folder,
by the zip (ONNX Runtime) and by a model storage's embedded engine over HTTP: do the three decide the same?

    python benchmarks/architectures.py WORK [--families NAME ...] [--minutes M] [--again] [--trials] [--page]

Results are kept in `benchmarks/results/architectures.json` after every family: it can be interrupted and goes on.
`--trials` runs the trial steps alone, which takes seconds a family. `--again` tries those again that did not get
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
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.guide import environment_of, sample_bottle
from cls.bottle.layout import Bottle
from cls.demo.services import HOST, choose_ports, service
from cls.errors import ClsError
from cls.files import read_json, write_json_atomic, write_text_atomic

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "architectures.json", ROOT / "docs" / "architectures.md"
GROUP = "top_color"
PHOTOS, PEOPLE = 48, 40
MOST_MILLIONS = 40.0
TIMEOUT_S = 240
MODEST_PX = 128
# Words in the names of members that are not the smallest; passed over where there are others.
_LARGE = {"base", "large", "huge", "giant", "gigantic", "enormous", "xlarge", "1b", "2b", "3b", "570m"}
_MANY = 12
_SMALL = ("test_", "atto", "femto", "pico", "nano", "tiny", "xxs", "_050", "_002", "lite0", "small", "_b0", "_s0", "18")
INTRO = """# Architectures

`cls train --arch` takes any backbone that timm knows. The trial steps of a training were run with one small member of
each of timm's families. Where *trained* is not `-`, it was also trained for one step on people of the sample set and
exported, and 40 people were decided on by the run's folder, by the ONNX package and by a server. *Input* is what was
tried, not what is best. *Memory format* is what the trial step chose ([decision 0025](decisions/0025-trial-step.md)).
`python benchmarks/architectures.py WORK` writes this page.
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
    """The member with the fewest parameters, and how many millions; those with a large size's name are passed over."""
    import timm
    import torch

    small = [name for name in names if not _LARGE & set(name.split("_"))] or names
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

    from cls.training.network import is_built_for_one_size

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    own = tuple(config.input_size[1:]) if config is not None else (224, 224)
    is_fixed = is_built_for_one_size(name)
    return [own] if is_fixed or own == (MODEST_PX, MODEST_PX) else [(MODEST_PX, MODEST_PX), own]


def try_family(bottle: Bottle, names: list[str], urls: tuple[str, str], version: str) -> dict[str, Any]:
    """The row of one family."""
    started_s = time.monotonic()
    name, millions = smallest(names)
    row: dict[str, Any] = {"model": name, "parameters_m": millions, "members": len(names)}
    if millions > MOST_MILLIONS:
        return {**row, "note": f"no small member: {millions:.0f} M parameters, not tried"}
    for size in inputs_of(name):
        row |= {"input": f"{size[0]}x{size[1]}", "note": ""}
        try:
            _go_through(row, bottle, name, size, urls, version)
        except ClsError as error:
            row["note"] = error.line()
        except Exception as error:  # noqa: BLE001 - a traceback at the user: ours to repair
            row["note"] = f"TRACEBACK {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if row.get("train"):
            break
    return {**row, "seconds": round(time.monotonic() - started_s)}


def try_steps(names: list[str]) -> dict[str, Any]:
    """The trial steps of one family's member alone, as the product's child process runs them."""
    from cls.training.config import TrainConfig
    from cls.training.trial_child import tried
    from cls.training.trial_step import FORMATS

    name, millions = smallest(names)
    row: dict[str, Any] = {"model": name, "parameters_m": millions, "members": len(names)}
    if millions > MOST_MILLIONS:
        return {**row, "note": f"no small member: {millions:.0f} M parameters, not tried"}
    for size in inputs_of(name):
        config = TrainConfig(GROUP, batch=2, arch=name, height_px=size[0], width_px=size[1], weights="none")
        told = {"config": config.to_dict(), "timm_arch": name, "outputs": 4, "is_pretrained": False, "batch": 2}
        row |= {"input": f"{size[0]}x{size[1]}"}
        for memory_format in FORMATS:
            found = tried(told, memory_format)
            if found is None:
                return {**row, "memory_format": memory_format, "note": ""}
            row["note"] = found[0]
    return row


def _go_through(
    row: dict[str, Any], bottle: Bottle, name: str, size: tuple[int, int], urls: tuple[str, str], version: str
) -> None:
    import numpy as np

    from cls.export.publish import export_run
    from cls.people.photos import read_photo
    from cls.prediction.opening import open_classifier
    from cls.training.config import TrainConfig
    from cls.training.train import train

    config = TrainConfig(
        GROUP, epochs=1, batch=8, arch=name, height_px=size[0], width_px=size[1], weights="none", valid=PEOPLE / PHOTOS,
        backgrounds=0,
    )  # fmt: skip
    run = train(bottle, config, resume=False)
    row |= {"train": True, "memory_format": run.args["memory_format"]}
    exported = export_run(bottle, run, ("onnx",), required=("onnx",))
    row["onnx"] = True
    people = [*run.validation_samples(), *run.samples("train")][:PEOPLE]
    row["people"] = len(people)
    crops = np.stack(
        [run.preprocessing.cut(read_photo(bottle.picture(sample.path)), sample.person) for sample in people]
    )
    package = exported.folder / "model_onnx.zip"
    decided, given = {}, []
    for way, model in (("zip", str(package)), ("run", str(run.folder)), ("server", _served(package, urls, version))):
        classifier = open_classifier(model, bottle)
        probs = classifier.probabilities(crops)
        given.append(probs.astype(np.float64))
        decided[way] = [classifier.chosen(row_probs) for row_probs in probs]
    changed = sum(len(set(answers)) > 1 for answers in zip(*decided.values(), strict=True))
    row["same"] = not changed
    if changed:
        above = np.stack(given) >= np.asarray(run.thresholds)
        far = np.abs(np.stack(given) - np.asarray(run.thresholds)).max(axis=0)[above.any(axis=0) != above.all(axis=0)]
        row["note"] = (
            f"{changed} of {len(people)} people are decided on differently, with a probability at most {far.max():.1e} "
            "from the threshold"
        )


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


def in_a_process(answer_file: Path, work: Any) -> dict[str, Any]:
    """A row made in a process forked from this one: a crash ends nothing but itself."""
    answer_file.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        signal.alarm(TIMEOUT_S)
        logging.disable(logging.WARNING)
        write_json_atomic(answer_file, work())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if answer_file.exists():
        found: dict[str, Any] = read_json(answer_file)
        return found
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        what = f"not done in {TIMEOUT_S} s" if number == signal.SIGALRM else f"CRASH {signal.Signals(number).name}"
        return {"note": what}
    return {"note": f"ended with status {os.waitstatus_to_exitcode(status)}"}


def page(results: dict[str, Any]) -> str:
    """The page of documentation."""
    rows, trials, names = results["rows"], results["trials"], results["families"]
    lines = [
        INTRO,
        "| family | model | M parameters | input | memory format | trial steps | trained | ONNX | zip = run = server |",
        "|" + "---|" * 9,
    ]
    notes = []
    for family in names:
        row = rows.get(family, {})
        trial = {key: value for key, value in trials.get(family, {}).items() if not (row and key == "note")}
        known = {**trial, **row}
        if not known:
            continue
        if known.get("note"):
            notes.append(textwrap.fill(f"- `{family}`, {known.get('model', '-')}: {known['note']}", 120))
        has_trial = bool(known.get("memory_format"))
        steps = "passed" if has_trial else "failed" if "input" in known else "-"
        marks = [("yes" if row.get(key) else "no") if "input" in row else "-" for key in ("train", "onnx", "same")]
        count = known.get("parameters_m")
        cells = [
            family, known.get("model", "-"), f"{count:.1f}" if isinstance(count, float) else "-",
            known.get("input", "-"), known.get("memory_format", "-"), steps, *marks,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    passed = [row for row in rows.values() if row.get("same")]
    whole = [name for name in names if "input" not in rows.get(name, {}) and "input" in trials.get(name, {})]
    missing = [name for name in names if name not in rows and name not in trials]
    lines += [
        "",
        f"Of timm's {len(names)} families {len(rows)} were tried all the way; {len(passed)} of them decide the same.",
    ]
    if notes:
        lines += ["", "## Notes", "", *notes]
    if whole:
        lines += ["", "## Trial steps only", "", _listed(whole)]
    if missing:
        lines += ["", "## Not tried", "", _listed(missing)]
    return "\n".join(lines) + "\n"


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
    """Runs the trial steps of every family that has none, and keeps each result as it comes."""
    import cls.training.trial_child  # noqa: F401 - once, for all processes forked from here

    known = families()
    results["families"] = list(known)
    for family, names in known.items():
        if family not in results["trials"]:
            found = in_a_process(options.work / "trial.json", lambda n=names: try_steps(n))
            results["trials"][family] = found
            write_json_atomic(RESULTS, results, indent=1)
            print(family, json.dumps(found, ensure_ascii=False), flush=True)


def measure(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Tries what has not been tried, and keeps each row as it comes."""
    import timm
    import torch

    # Once, for all processes forked from here.
    import cls.export.publish
    import cls.training.train  # noqa: F401

    end_s = time.monotonic() + options.minutes * 60
    known = families()
    results |= {"families": list(known), "torch": torch.__version__, "timm": timm.__version__}
    bottle, _ = sample_bottle(options.work, photos=PHOTOS, seed=1, groups=(GROUP,))
    ports = choose_ports()
    storage = options.work / "storage"
    shutil.rmtree(storage, ignore_errors=True)
    words = ["storage", "serve", "--root", str(storage), "--port", str(ports.storage), "--ssh-port", str(ports.ssh)]
    urls = (f"http://{HOST}:{ports.storage}", f"http://{HOST}:{ports.inference}")
    environment = environment_of(bottle.root)
    with service(
        "model storage", [*words, "--infer-port", str(ports.inference)], (ports.storage, ports.inference),
        options.work / "storage.log", environment,
    ):  # fmt: skip
        for number, (family, names) in enumerate(known.items()):
            row = results["rows"].get(family)
            is_wanted = row is None or (options.again and not row.get("same"))
            if (options.families and family not in options.families) or not (is_wanted or options.families):
                continue
            if time.monotonic() > end_s:
                break
            version = f"1.{number}.{int(time.time()) % 100000}"
            row = in_a_process(options.work / "row.json", lambda n=names, v=version: try_family(bottle, n, urls, v))
            results["rows"][family] = row
            write_json_atomic(RESULTS, results, indent=1)
            print(family, json.dumps(row, ensure_ascii=False), flush=True)
            shutil.rmtree(bottle.models(GROUP), ignore_errors=True)


if __name__ == "__main__":
    main()
