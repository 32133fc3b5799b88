"""The guide's scripts as benchmarks run them: in a data folder of their own, without network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.demo.guide_steps import HOST, GuideStep, run_step
from cls.files import read_json, write_json_atomic
from cls.sample import PERSON_MODEL
from cls.settings import REPOSITORY, load_settings

if TYPE_CHECKING:
    from torch import nn

    from cls.dataset.cutouts import Cutouts
    from cls.people.preprocess import Preprocessing


def environment_of(bottle: Path, collector_port: int | None = None) -> dict[str, str]:
    """The environment of every script: its own data folder, no network."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CLS_")}
    return inherited | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(REPOSITORY),
        "HF_HUB_OFFLINE": "1",
        "CLS_DATA_PATH": str(bottle.absolute()),
        **({} if collector_port is None else {"CLS_COLLECTOR_URL": f"http://{HOST}:{collector_port}"}),
    }


def open_bottle(folder: Path) -> Bottle:
    """A data folder as the scripts see it."""
    variables = environment_of(folder)
    return Bottle(load_settings(environment={k: v for k, v in variables.items() if k.startswith("CLS_")}))


def probabilities(network: nn.Module, preprocessing: Preprocessing, cutouts: Cutouts) -> NDArray[np.float64]:
    """What a network says of cut-outs as inference sees them, (samples, labels)."""
    from cls.metrics.multilabel import probabilities_of
    from cls.training.evaluation.calibration import logits_of

    exact = (cutouts.input_rgb(index) for index in range(len(cutouts)))
    return probabilities_of(logits_of(network, preprocessing, exact))


def sample_bottle(work: Path, *, photos: int, seed: int, groups: Sequence[str]) -> tuple[Bottle, float]:
    """A data folder with photos of the sample set, loaded and segmented by the guide's scripts; made once.

    Returns:
        The folder, and the seconds that segmentation took.
    """
    name = f"sample-{photos}-{seed}"
    folder, bottle, mark = work / name, work / f"{name}-bottle", work / f"{name}.json"
    if not mark.exists():
        environment = environment_of(bottle)
        make = ("cls", "sample", "make", str(folder), "--photos", str(photos), "--seed", str(seed))
        run_step(GuideStep("sample", "make the sample", make), environment)
        for group in groups:
            load = ("python", "cls/classification/load_group.py", "--group", group, "--source", str(folder))
            run_step(GuideStep("load", "load the group", load), environment)
        segment = ("python", "cls/classification/segment_builder.py", "--model-path", str(PERSON_MODEL))
        result = run_step(GuideStep("segment", "cut the people out", segment), environment)
        write_json_atomic(mark, {"segment_s": result.seconds})
    return open_bottle(bottle), float(read_json(mark)["segment_s"])
