"""metrics.json in a few lines of text."""

from __future__ import annotations

from typing import Any


def summary_of(metrics: dict[str, Any]) -> str:
    """A table of labels and one line of means; positives and thresholds have none.

    Args:
        metrics: what metrics.json says.
    """
    validation = metrics["validation"]
    if validation is None:
        return f"trained on all {metrics['samples']['train']} people; thresholds from {metrics['thresholds_from']}"
    width = max(len("mean"), *(len(name) for name in metrics["labels"]))
    lines = [f"{'':{width}}  positives  base rate     AP  AUROC  threshold  precision  recall     F1"]
    for name in metrics["labels"]:
        label = validation["labels"][name]
        lines.append(
            f"{name:{width}}  {label['positives']:9d}  {_number(label['base_rate'], 9)}  {_number(label['ap'], 5)}"
            f"  {_number(label['auroc'], 5)}  {_number(label['threshold'], 9)}  {_number(label['precision'], 9)}"
            f"  {_number(label['recall'], 6)}  {_number(label['f1'], 5)}"
        )
    macro = validation["macro"]
    lines.append(
        f"{'mean':{width}}  {'':9}  {_number(macro['base_rate'], 9)}  {_number(macro['ap'], 5)}"
        f"  {_number(macro['auroc'], 5)}  {'':9}  {_number(macro['precision'], 9)}"
        f"  {_number(macro['recall'], 6)}  {_number(macro['f1'], 5)}"
    )
    return "\n".join(lines)


def _number(value: float | None, width: int) -> str:
    return f"{'-' if value is None else format(value, '.3f'):>{width}}"
