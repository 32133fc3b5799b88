"""The page docs/reference/run-files.md, made of types."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from cls.dataset.samples import LedgerRecord
from cls.dataset.split.file import SplitFile
from cls.metrics.scores import LabelMetrics, MeasureIntervals, Measures
from cls.training.runs.args import RunArgs
from cls.training.runs.listing import ListedRun
from cls.training.runs.metrics import Calibration, RunMetrics
from tests.reference.meta_json import as_json, fields_of, objects_of, wrapped

_INTRODUCTION = """\
# Files of a run

A run's folder is `models/<group>/v__<n>_<mode>_<arch>_<batch>_<decay>` in the data folder. Numbers are not used twice,
even if a folder is deleted. [Evaluate](../evaluate.md) says how to read the results, [Train](../train.md) how to make
them.

| file or folder | what it holds |
|---|---|
| `args.yaml` | [every setting](#argsyaml); `cls train --from RUN` trains with them again |
| `split.json` | [who is in training and in validation](#splitjson) |
| `ledger.json` | [photos that were left out, and why](#ledgerjson) |
| `metrics.json` | [everything that was measured](#metricsjson); a run that has it is finished |
| `predictions.csv` | [truth and probability of everybody in validation](#predictionscsv-and-label_errorscsv) |
| `label_errors.csv` | [labels that are probably wrong](#predictionscsv-and-label_errorscsv) |
| `report.html` | the report, in one file |
| `checkpoints/model.ckpt` | the final weights, calibrated: what is exported |
| `checkpoints/best.ckpt` | the best epoch on validation, before calibration; with mode `all` the last epoch |
| `checkpoints/last.ckpt` | the last whole epoch with the optimizer's state, to resume from |
| `csv_logs/` | loss, learning rate and validation measures by step and epoch |
| `tensorboard/`, `mlflow/`, `wandb/` | other logs, with `--log` |
| `train_batches/` | training images as the network saw them; `before_after.jpg`: before and after augmentation |
| `onnx/model.onnx`, `torchscripts/model.pt` | the network, converted |
| `leak_tax/` | what `--leak-tax` leaves of the second training |
| `bad_batch/` | a batch whose loss is not a number: `.npz` and the photos' names as `.txt` |
| `test_metrics.json` | measures on the test part of a [public set](../attribute-sets.md) |
| `.identity.json`, `.time.json`, `.lock` | what resuming needs; the time so far; whether a process is at work |

The `.npz` has `images`, `labels`, `indices`, `pictures` and `logits`. Beside the runs, the group's folder has
`attribute_table.txt` of a public set and `.runs.json`, the number of the next run. Files of earlier versions are read;
they may lack keys.

This page is generated from the code: `python -m tests.reference` writes it.
"""

_TABLES = """
## predictions.csv and label_errors.csv

| column | what it says |
|---|---|
| `picture` | file name in `pictures/` |
| `person` | the person's id in the pictures database, as in the tables of `cls infer` |
| `picset` | the photo's picset; empty where it is unknown |
| `is LABEL`, `prob LABEL` | `predictions.csv`: 1, 0 or nan (unknown), and the calibrated probability |
| `label`, `given`, `probability` | `label_errors.csv`: the doubted label, whether it was given, and the probability |

In runs made before people had ids, `person` is a number that counts the chosen people of the photo.

## How intervals are computed

`validation.intervals` and `validation.cross_fitted.intervals` hold 95 percent intervals. Picsets of validation (photos,
where they have none) are resampled with replacement, 1,000 times, and every measure is computed again. Whole picsets
are resampled because their people look alike: resampled one by one, intervals would be too narrow.

Resampling shows nothing where everybody is right. So no interval of a label is narrower than the exact binomial one
(Clopper and Pearson, 1934) of the label's people in validation: with all of 20 positives right, recall, precision, F1
and average precision are 0.83 to 1.

- Recall, precision and specificity are shares of people.
- F1 is between the harmonic means of the lower and of the upper ends of precision and recall, mA between the means of
  those of recall and specificity.
- Average precision counts as a share of the positives, AUROC as one of the positives or the negatives, whichever are
  fewer.
- A mean over labels that no resample changes has the exact interval of as many people as it has labels times the
  positives of the rarest one.

Exact intervals count people, not picsets: where 20 people are in few picsets, less is known still. A label whose
positives are in fewer than three picsets of validation has no interval. `left_out` names these labels;
`intervals.means` has the means without them, `macro` is over all labels.

Thresholds and temperature are chosen on the people they are measured on, so precision, recall, F1 and mA of
`validation` are slightly optimistic; AP and AUROC need no threshold. `validation.cross_fitted` has five folds of
picsets, each decided with what the other four choose. Its key keeps an older name.

## How people without labels count

Instance-based F1 is that of the mean precision and the mean recall, not the mean of people's F1. If a person has no
label, or none is predicted, these measures do as the RAP authors' evaluation code: recall is averaged over people who
have a label, precision over people with a predicted label, accuracy over people with either. Other code differs, so
compare with care: some leaves out everybody without a label (a false alarm on a trash picture then costs nothing), some
counts every empty division as 0. In the same way, a label without positives or without negatives has no mA here; some
code counts its missing half as 0.

## How thresholds are chosen

A threshold is the middle of the range in which the label's F1 is as good as the best: within 0.01, or within one
positive's share of recall (0.25 for a label that four people have), instead of a lucky maximum. A label with few
positives leans, within that range, towards the threshold that is best over all labels together.
"""

_CALIBRATION = """\
The temperature is the one number that makes validation most likely. The shift is the logarithm of what the loss lets a
positive of the label count against a negative (Elkan, IJCAI 2001); it is removed only where that makes validation more
likely. The order of people stays the same.

Nothing is changed, and `source` says why, where fewer than ten positives or negatives are known, where no temperature
from 0.2 to 5 is best, and for a backbone whose last layer does not give the logits.
"""

_FLAGS = """\
`cls runs --compare A B --json` prints `runs` (two of these), `is_comparable`, `why_not`, `settings` (those that differ)
and `measures`: for each `values` and `intervals` of both runs.
"""

# File -> its type, and what more is to be said of it.
FILES: dict[str, tuple[type[BaseModel], str]] = {
    "metrics.json": (RunMetrics, "Measures that are not defined or were not measured are `null`.\n"),
    "args.yaml": (
        RunArgs,
        "`settings` has [options](commands.md#cls-train) by field, `preprocessing` is as in [meta.json](meta-json.md).",
    ),
    "split.json": (SplitFile, "[Splits](../splits.md) says how it is made.\n"),
    "ledger.json": (LedgerRecord, ""),
    "cls runs --json": (ListedRun, _FLAGS),
}


def page() -> str:
    """The page as Markdown."""
    lines = [_INTRODUCTION.rstrip()]
    known: set[type[BaseModel]] = set()
    for name, (root, text) in FILES.items():
        lines += _file(name, root, text, known)
        if root is RunMetrics:
            lines.append(_TABLES.rstrip())
    return "\n".join(lines) + "\n"


def _file(name: str, root: type[BaseModel], text: str, known: set[type[BaseModel]]) -> Iterator[str]:
    places: dict[type[BaseModel], list[str]] = {}
    for path, kind in objects_of(root):
        places.setdefault(kind, []).append(path.replace("<key>", "<label>"))
    yield f"\n## {name}\n"
    for kind, paths in places.items():
        if kind in known:
            continue
        known.add(kind)
        if kind is not root:
            yield f"\n### `{paths[0]}`\n"
        if len(paths) > 1:
            yield wrapped(f"Also {', '.join(f'`{path}`' for path in paths[1:])}.") + "\n"
        first = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
        yield wrapped(as_json(first)) + "\n"
        if kind is root and text:
            yield wrapped(text) + "\n"
        if kind is Calibration:
            yield _CALIBRATION
        yield from _keys(kind)


def _keys(kind: type[BaseModel]) -> Iterator[str]:
    own = fields_of(kind)
    if kind is MeasureIntervals:  # its docstring says it of all of them
        yield wrapped(f"- {', '.join(f'`{one.name}`' for one in own)} ({own[0].type})", "  ")
        return
    if kind is LabelMetrics:
        own = [one for one in own if one.name not in Measures.model_fields]
        yield "The keys of `validation.macro`, and:\n"
    for one in own:
        required = ", required" if one.is_required else ""
        yield wrapped(f"- `{one.name}` ({one.type}{required}): {as_json(one.meaning).removesuffix('.')}", "  ")
