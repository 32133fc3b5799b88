"""Figures that others published on the public sets, as they stand in their own repositories, to hold a run against.

Only figures that were read at their source are here. All are percent, on the test part, at threshold 0.5. Jia et al.
train on training and validation part together; here the validation part chooses epoch, calibration and thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

from cls.attribute_sets.loading import IDENTITY, OFFICIAL

_JIA = "Jia, Huang, Chen, Huang: Rethinking of Pedestrian Attribute Recognition, arXiv:2107.03576; figures of "
JIA = _JIA + "github.com/valencebond/Rethinking_of_PAR (README.md)"
LEE = "github.com/xingzhaolee/pedestrian-attribute-recognition-lightning (modules/README.md)"
ZJYKZJ = "github.com/zjykzj/RethinkingPAR (README.md), a second implementation of arXiv:2107.03576"


@dataclass(frozen=True)
class PublishedRow:
    """One row of somebody's table.

    Attributes:
        layout: which set.
        parts: which parts it is to be held against; of `identity`, the authors' own division without shared people,
            which is another one than ours.
        model: what was trained.
        values: mA, instance-based accuracy, precision, recall and F1, in percent.
        source: where the figures stand.
    """

    layout: str
    parts: str
    model: str
    values: tuple[float, float, float, float, float]
    source: str


PUBLISHED = (
    PublishedRow("pa100k", OFFICIAL, "ResNet-50", (80.21, 79.15, 87.79, 87.01, 87.40), JIA),
    PublishedRow("pa100k", OFFICIAL, "Swin-S", (82.19, 80.35, 87.85, 88.51, 88.18), JIA),
    PublishedRow("pa100k", OFFICIAL, "ResNet, weighted loss", (76.76, 75.69, 85.63, 84.92, 85.27), LEE),
    PublishedRow("peta", OFFICIAL, "ResNet-50", (83.96, 78.65, 87.08, 85.62, 86.35), JIA),
    PublishedRow("peta", OFFICIAL, "ResNet, weighted loss", (83.98, 79.41, 88.07, 85.57, 86.80), LEE),
    PublishedRow("peta", IDENTITY, "ResNet-50, PETA-zs", (71.43, 58.69, 74.41, 69.82, 72.04), JIA),
    PublishedRow("peta", IDENTITY, "ResNet-50, PETA-zs", (70.37, 59.11, 75.24, 69.82, 72.43), ZJYKZJ),
    PublishedRow("rapv2", OFFICIAL, "ResNet-50", (78.52, 66.09, 77.20, 80.23, 78.68), JIA),
    PublishedRow("rapv2", IDENTITY, "ResNet-50, RAP-zs", (71.76, 64.83, 78.75, 76.60, 77.66), JIA),
)
