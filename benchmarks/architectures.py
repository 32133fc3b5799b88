"""Which of timm's families can be trained, converted and served? One small member of each, all the way on 40 people.

A family is a module of `timm.models`; its member is the one with the fewest parameters. Each is trained for one step
from random weights (`cls.training.train.train`), exported to ONNX with the parity gate, and asked by the run's folder,
by the zip (ONNX Runtime) and by a model storage's embedded engine over HTTP: do the three decide the same?

    python benchmarks/architectures.py WORK [--families NAME ...] [--minutes M] [--again] [--page]

Results are kept in `benchmarks/results/architectures.json` after every family: it can be interrupted and goes on.
`--again` tries those again that did not get through. Last, `docs/architectures.md` is written; `--page`: only that.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
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
TIMEOUT_S = 600
MODEST_PX = 128
# Words in the names of members that are not the smallest; passed over where there are others.
_LARGE = {"base", "large", "huge", "giant", "gigantic", "enormous", "xlarge", "1b", "2b", "3b", "570m"}
INTRO = """# Architectures

`cls train --arch` takes any backbone that timm knows. One small member of each of timm's families was trained for one
step, exported and served, and 40 people of the sample set were decided on by the run's folder, by the ONNX package and
by a server. *Input* is what was tried, not what is best. *Memory format* is what the trial step chose
([decision 0025](decisions/0025-trial-step.md)). `python benchmarks/architectures.py WORK` writes this page.
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
        return {**row, "note": f"smallest is {millions:.0f} M parameters: not tried"}
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
    people = run.validation_samples()
    row["people"] = len(people)
    crops = np.stack(
        [run.preprocessing.cut(read_photo(bottle.picture(sample.path)), sample.person) for sample in people]
    )
    package = exported.folder / "model_onnx.zip"
    decided = {}
    for way, model in (("zip", str(package)), ("run", str(run.folder)), ("server", _served(package, urls, version))):
        classifier = open_classifier(model, bottle)
        decided[way] = [classifier.chosen(probs) for probs in classifier.probabilities(crops)]
    changed = sum(len(set(answers)) > 1 for answers in zip(*decided.values(), strict=True))
    row["same"] = not changed
    if changed:
        row["note"] = f"{changed} of {len(people)} people are decided on differently"


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


def page(rows: dict[str, dict[str, Any]], names: list[str]) -> str:
    """The page of documentation."""
    lines = [
        INTRO,
        "| family | model | M parameters | input | memory format | trained | ONNX | zip = run = server |",
        "|" + "---|" * 8,
    ]
    notes = []
    for family in sorted(rows):
        row = rows[family]
        marks = ["yes" if row.get(key) else "no" for key in ("train", "onnx", "same")]
        if row.get("note"):
            notes.append(f"- `{family}`, {row.get('model', '')}: {row['note']}")
        if "input" not in row:
            marks = ["-"] * 3
        count = row.get("parameters_m")
        cells = [
            family, row.get("model", "-"), f"{count:.1f}" if isinstance(count, float) else "-", row.get("input", "-"),
            row.get("memory_format", "-"), *marks,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    passed = sum(bool(row.get("same")) for row in rows.values())
    missing = [name for name in names if name not in rows]
    lines += ["", f"{passed} of {len(rows)} families get all the way through; {len(names)} families in timm."]
    if notes:
        lines += ["", "## What does not get through", "", *notes]
    if missing:
        lines += ["", "## Not tried", "", ", ".join(f"`{name}`" for name in missing) + "."]
    return "\n".join(lines) + "\n"


def read_results() -> dict[str, Any]:
    """What is known so far."""
    if not RESULTS.exists():
        return {"families": [], "rows": {}}
    found: dict[str, Any] = read_json(RESULTS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--families", nargs="*", default=[])
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    results = read_results()
    if not options.page:
        measure(options, results)
    write_text_atomic(PAGE, page(results["rows"], results["families"]))


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
