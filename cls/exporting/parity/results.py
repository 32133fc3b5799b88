"""What a conversion changes for each label (F1, calibration, logits), and on cut-outs of other sizes than the input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from cls.errors import ParityError, ParityFault, PredictionError
from cls.exporting.formats.end_to_end import NORMALISED
from cls.exporting.formats.onnx import load_onnx, session_of
from cls.exporting.parity.samples import Answers, Reference
from cls.metrics.multilabel import expected_calibration_error, measure, precision_recall_f1
from cls.metrics.scores import LabelMetrics, Measures, Metrics
from cls.people.photos import read_photo
from cls.people.preprocess import Cutout, Preprocessing, cut_out, on_flat_background
from cls.progress import track
from cls.runtimes.classifier import Classifier

CALIBRATION_MEASURES = ("ece", "ece_adaptive", "brier")
# Probabilities nearer to 0 or 1 count as this near: float32, and the six digits that packages keep of a probability,
# do not tell their logits apart.
_LEAST_PROBABILITY = 1e-4
# A label that the trained network hardly tells people apart by: its logits are compared in units of this.
_LEAST_SPREAD = 0.5

# People whose cut-outs are asked about; each is asked about at every kind of size.
MOST_PEOPLE = 48
AS_CUT_OUT, LARGER, SMALLER = "of their own size", "larger than the input", "smaller than the input"

# Sides of the cut-outs in those of the network's input.
_FACTORS = {LARGER: 2.4, SMALLER: 0.45}

# How much of the frame's other side the picture fills, about.
_FILLED = 0.72

# OpenCV interpolates in whole numbers: a level at most, and that seldom (0.04 on average when enlarging).
_MOST_LEVELS, _MEAN_LEVELS = 1.01, 0.1

# At most so many large pictures at once.
_BATCH = 4


@dataclass(frozen=True)
class LabelResult:
    """The comparison for one label. Each change is that of the batch size where it is largest.

    Attributes:
        known: people who are annotated for the label.
        positives: people who have the label; by the trained network's decisions where nobody is annotated.
        label_flips: decisions that differ at any batch size.
        farthest_flip: largest distance of the trained probability from the threshold in such a decision; 0 without any.
        f1: of the trained network; None where nobody has the label.
        f1_change: the conversion's F1 less that.
        f1_of_one_decision: how much one decision changes F1 at most.
        ece: expected calibration error of the trained network; None where nobody is annotated.
        ece_change: the conversion's less that, on the same people.
        logit_shift: mean difference of the logit, with its sign.
        logit_error: root mean square difference of the logit, in standard deviations of the trained network's logit.
    """

    label: str
    known: int
    positives: int
    label_flips: int
    farthest_flip: float
    f1: float | None
    f1_change: float | None
    f1_of_one_decision: float
    ece: float | None
    ece_change: float | None
    logit_shift: float
    logit_error: float


def label_results(
    reference: Reference,
    answers: Answers,
    flips: NDArray[np.bool_],
    distance: NDArray[np.float32],
    decided: Sequence[Metrics],
) -> tuple[LabelResult, ...]:
    """The comparison label by label, in the trained network's order.

    Args:
        reference: the trained network and its answers.
        answers: the conversion's.
        flips: decisions that differ, bool (batch sizes, people, labels).
        distance: of the trained probabilities from their thresholds, (people, labels).
        decided: measures of the trained network's decisions, then of the conversion's at each batch size.
    """
    logits = [logit_differences(reference.probs, probs) for probs in answers.probs]
    results = []
    for index, label in enumerate(reference.trained.labels):
        truth = reference.truth[:, index]
        before, *after = (metrics.labels[label] for metrics in decided)
        ece = calibration_error(reference.probs[:, index], truth)
        eces = [calibration_error(probs[:, index], truth) for probs in answers.probs]
        is_flip = flips[:, :, index].any(axis=0)
        results.append(
            LabelResult(
                label=label,
                known=int((~np.isnan(truth)).sum()),
                positives=before.positives,
                label_flips=int(is_flip.sum()),
                farthest_flip=float(distance[is_flip, index].max(initial=0)),
                f1=before.f1,
                f1_change=largest_change([one.f1 for one in after], before.f1),
                f1_of_one_decision=f1_of_one_decision(before),
                ece=ece,
                ece_change=largest_change(eces, ece),
                logit_shift=max((float(shift[index]) for shift, _ in logits), key=abs),
                logit_error=max(float(error[index]) for _, error in logits),
            )
        )
    return tuple(results)


def logits_of_probs(probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """The logits of probabilities, of any shape; cut off where probabilities no longer tell them apart.

    An answer that is not a number counts as probability 0.
    """
    clipped = np.clip(np.nan_to_num(probs.astype(np.float64)), _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.asarray(np.log(clipped / (1 - clipped)))


def logit_differences(
    expected: NDArray[np.float32], found: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far logits are from the trained network's, label by label.

    Args:
        expected: probabilities of the trained network, (people, labels).
        found: those of a conversion, (people, labels).

    Returns:
        The mean difference, and the root mean square difference in standard deviations of the trained network's logit;
        (labels,) each.
    """
    right = logits_of_probs(expected)
    difference = logits_of_probs(found) - right
    spread = np.maximum(right.std(axis=0), _LEAST_SPREAD)
    return difference.mean(axis=0), np.sqrt(np.square(difference).mean(axis=0)) / spread


def f1_of_one_decision(before: LabelMetrics) -> float:
    """How much a single other decision changes a label's F1 at most; 0 where F1 is not defined.

    That is one of those found being missed; where nobody is found, one of those missed being found.
    """
    if before.f1 is None:
        return 0.0
    change = -1 if before.true_positives else 1
    found, missed = before.true_positives + change, before.false_negatives - change
    after = precision_recall_f1(found, before.false_positives, missed)[2]
    return abs((after or 0.0) - before.f1)


def calibration_error(probs: NDArray[np.float32], truth: NDArray[np.float64]) -> float | None:
    """Expected calibration error over the decisions whose truth is known; None without any.

    Args:
        probs: of any shape; an answer that is not a number counts as probability 0.
        truth: of the same shape: 1, 0, NaN for unknown.
    """
    is_known = ~np.isnan(truth)
    return expected_calibration_error(np.nan_to_num(probs[is_known].astype(np.float64)), truth[is_known] > 0.5)


def calibration_of(reference: Reference, probs: NDArray[np.float32]) -> Metrics:
    """Calibration errors of some answers against the annotations, to a millionth: those of `CALIBRATION_MEASURES`.

    Args:
        reference: who was asked about.
        probs: (people, labels); an answer that is not a number counts as probability 0.

    Returns:
        `labels` (by label), `macro` (their means) and `micro` (all decisions together), as a run's metrics have them.
    """
    names = reference.trained.labels
    finite = np.nan_to_num(probs.astype(np.float64))
    found = measure(finite, reference.truth, names, reference.trained.thresholds)
    return Metrics(
        labels={
            name: LabelMetrics.model_validate(_calibration_measures(label)) for name, label in found.labels.items()
        },
        macro=Measures.model_validate(_calibration_measures(found.macro)),
        micro=Measures.model_validate(_calibration_measures(found.micro)),
    )


def _calibration_measures(values: Measures) -> dict[str, float | None]:
    # Smaller differences depend on the number of threads: meta.json says the same on every machine.
    found = {key: getattr(values, key) for key in CALIBRATION_MEASURES}
    return {key: None if value is None else round(value, 6) for key, value in found.items()}


def largest_change(found: Sequence[float | None], before: float | None) -> float | None:
    """The largest change in either direction; None where nothing is defined on both sides."""
    changes = [value - before for value in found if value is not None and before is not None]
    return max(changes, key=abs) if changes else None


@dataclass(frozen=True, eq=False)
class SizedCutouts:
    """People's cut-outs at sizes of one kind, and what the trained network says of them.

    Attributes:
        kind: `of their own size` in the photo, `larger than the input` of the network, or `smaller than the input`.
        people: whose they are: indices into the reference, int64 (cut-outs,).
        crops_rgb: each uint8 (its height, its width, 3), the background filled.
        fitted_rgb: the same after `Preprocessing.fit`, uint8 (cut-outs, height, width, 3).
        probs: what the trained network says of those, float32 (cut-outs, labels).
    """

    kind: str
    people: NDArray[np.int64]
    crops_rgb: tuple[NDArray[np.uint8], ...] = field(repr=False)
    fitted_rgb: NDArray[np.uint8] = field(repr=False)
    probs: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class SizeResult:
    """What an end-to-end model says of cut-outs at sizes of one kind.

    Attributes:
        kind: as of `SizedCutouts`.
        max_probability_difference: largest difference from what the trained network says after `Preprocessing.fit`.
        label_flips: decisions that differ from those of the trained network.
        farthest_flip: how far from its threshold the trained probability of such a decision is at most; 0 without any.
        resize_error: root mean square difference of the logits from those of the model itself after
            `Preprocessing.fit`, in their standard deviations, of the label with the largest: what comes of resizing
            alone, whatever the precision.
    """

    kind: str
    samples: int
    max_probability_difference: float
    label_flips: int
    farthest_flip: float
    resize_error: float


def size_results(converted: Classifier, reference: Reference) -> tuple[SizeResult, ...]:
    """Asks an end-to-end model about cut-outs of all kinds of sizes.

    Args:
        converted: the model; its labels are those of the trained network, in any order.
        reference: the people.

    Raises:
        ParityError: the model does not answer.
    """
    order = [converted.labels.index(label) for label in reference.trained.labels]
    thresholds = np.array(reference.trained.thresholds, np.float32)
    own_thresholds = np.array(converted.thresholds, np.float32)[order]
    results = []
    for sized in reference.sized:
        try:
            found = answers_of_sized(converted, sized)[:, order]
            fitted_before = converted.probabilities(sized.fitted_rgb)[:, order]
        except PredictionError as error:
            raise ParityError(
                f"the conversion on cut-outs {sized.kind}: {error.what}",
                code=error.case,
                where=error.where,
            ) from error
        is_flip = (found >= own_thresholds) != (sized.probs >= thresholds)
        distance = np.abs(sized.probs - thresholds)
        results.append(
            SizeResult(
                kind=sized.kind,
                samples=len(found),
                max_probability_difference=float(np.abs(found - sized.probs).max()),
                label_flips=int(is_flip.sum()),
                farthest_flip=float(distance[is_flip].max(initial=0)),
                resize_error=float(logit_differences(fitted_before, found)[1].max()),
            )
        )
    return tuple(results)


def sized_cutouts(reference: Reference) -> list[SizedCutouts]:
    """Cut-outs of some of the people as they are cut out of their photos, larger, and smaller than the input.

    Where the photos are not at hand the larger and the smaller ones are made of the network's own cut-outs.

    Raises:
        PredictionError: the trained network answers nonsense.
    """
    chosen = np.unique(np.linspace(0, len(reference) - 1, MOST_PEOPLE).astype(np.int64))
    preprocessing = reference.trained.preprocessing
    if reference.samples:
        samples = [reference.samples[person] for person in chosen.tolist()]
        own = [
            filled_cutout(cut_out(read_photo(one.file), one.person, margin_rel=preprocessing.margin_rel), preprocessing)
            for one in track(samples, "parity: people cut out at their own size")
        ]
    else:
        own = list(reference.crops_rgb[chosen])
    kinds = {AS_CUT_OUT: own} if reference.samples else {}
    for kind, factor in _FACTORS.items():
        sizes = odd_sizes(preprocessing.height_px, preprocessing.width_px, factor)
        kinds[kind] = [_resized(crop, *sizes[number % len(sizes)]) for number, crop in enumerate(own)]
    return [_asked(reference, kind, chosen, crops) for kind, crops in kinds.items()]


def filled_cutout(cutout: Cutout, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A cut-out as a caller of an end-to-end model makes it: its own size, the fill colour around the outline."""
    if preprocessing.is_background_kept:
        return np.ascontiguousarray(cutout.image_rgb)
    return on_flat_background(cutout, preprocessing.fill_rgb)


def fitted(crop_rgb: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A filled cut-out as training letterboxes it: `Preprocessing.fit` with everything in it meant."""
    return preprocessing.fit(Cutout(crop_rgb, np.full(crop_rgb.shape[:2], 255, np.uint8)))


def odd_sizes(height_px: int, width_px: int, factor: float) -> list[tuple[int, int]]:
    """Sizes that show mistakes of a letterbox: uneven borders, and sides inside the frame that are rounded.

    With each of them one side fills the frame, and the borders at the other one differ by a pixel where possible. In
    the first two that other side is rounded up inside the frame, in the next two down, and in the last two it lies
    half-way between two pixels, where whole numbers of pixels allow it.

    Args:
        height_px: height of the frame.
        width_px: width of the frame.
        factor: about how many times as large the sizes are.

    Returns:
        (height, width) of six sizes, those with borders at the sides and those with borders above and below in turn.
    """
    sizes = []
    for low, high in ((0.55, 0.95), (0.05, 0.45)):
        sizes.append(_pair(height_px, width_px, factor, low, high))
        sizes.append(_pair(width_px, height_px, factor, low, high)[::-1])
    sizes.append(_tie(height_px, width_px, factor, is_up=False))
    sizes.append(_tie(width_px, height_px, factor, is_up=True)[::-1])
    return sizes


def _pair(full_px: int, other_px: int, factor: float, low: float, high: float) -> tuple[int, int]:
    """A side that fills the frame, and another whose size inside it has a fraction from low to high."""
    about = max(round(full_px * factor), 1)
    best, least = (about, 1), float("inf")
    for full in range(max(about - 8, 1), about + 9):
        scale = full_px / full
        for other in range(1, int(0.95 * other_px / scale) + 1):
            inner = other * scale
            is_odd = (other_px - round(inner)) % 2 == 1
            badness = abs(inner / other_px - _FILLED) + 0.1 * abs(full - about) / about + (not is_odd)
            if low <= inner % 1 <= high and badness < least:
                best, least = (full, other), badness
    return best


def _tie(full_px: int, other_px: int, factor: float, *, is_up: bool) -> tuple[int, int]:
    """A side that fills the frame, and another that lies half-way between two pixels inside it.

    Args:
        full_px: of the frame, where the picture fills it.
        other_px: of the frame's other side.
        factor: about how many times as large the sides are.
        is_up: of the two numbers of pixels the even one is the larger.
    """
    for halves in (1, 3, 5):  # the scale in halves, which floating point has exactly
        about = full_px * 2 / halves
        if 2 * full_px % halves or not 0.6 < about / (full_px * factor) < 1.7:
            continue
        inner_halves = [
            inner
            for inner in range(halves, 2 * other_px, 2 * halves)
            if round(inner / 2) * 2 == (inner + 1 if is_up else inner - 1)
        ]
        if inner_halves:
            inner = min(inner_halves, key=lambda inner: abs(inner / 2 - _FILLED * other_px))
            return 2 * full_px // halves, inner // halves
    return _pair(full_px, other_px, factor, 0.55, 0.95)


def level_faults(graph: Path, reference: Reference) -> list[ParityFault]:
    """Whether an end-to-end ONNX letterboxes cut-outs as training does, pixel by pixel.

    Returns:
        One for each kind of sizes where it does not; none where the model has no value of that name.

    Raises:
        ExportError: the file is missing or cut short.
    """
    model = load_onnx(graph)
    if not any(NORMALISED in node.output for node in model.graph.node):
        return []
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=NORMALISED))
    session = session_of(model.SerializeToString())
    preprocessing = reference.trained.preprocessing
    deviation = np.array(preprocessing.std_rgb, np.float32)[:, None, None] * 255
    faults = []
    for sized in reference.sized:
        largest = total = 0.0
        for numbers in _of_one_size(sized.crops_rgb):
            images = np.stack([sized.crops_rgb[number] for number in numbers])
            seen = session.run([NORMALISED], {model.graph.input[0].name: images})[0]
            levels = np.abs(seen - preprocessing.normalise(sized.fitted_rgb[numbers])) * deviation
            largest = max(largest, float(levels.max()))
            total += float(levels.mean()) * len(numbers)
        mean = total / len(sized.crops_rgb)
        if not (largest <= _MOST_LEVELS and mean <= _MEAN_LEVELS):
            faults.append(
                ParityFault(
                    f"cut-outs {sized.kind} are resized otherwise inside the model: pixels differ by up to"
                    f" {largest:.3g} levels of 255, {mean:.2g} on average (limits {_MOST_LEVELS:.0f} and"
                    f" {_MEAN_LEVELS:g})",
                    code="resizing_differs",
                )
            )
    return faults


def answers_of_sized(converted: Classifier, sized: SizedCutouts) -> NDArray[np.float32]:
    """What an end-to-end model says of the cut-outs, those of one size together; float32 (cut-outs, its labels)."""
    found = np.zeros((len(sized.crops_rgb), len(converted.labels)), np.float32)
    for numbers in _of_one_size(sized.crops_rgb):
        found[numbers] = converted.probabilities(np.stack([sized.crops_rgb[number] for number in numbers]))
    return found


def _of_one_size(crops: tuple[NDArray[np.uint8], ...]) -> Iterator[list[int]]:
    """The numbers of pictures of one size, a few at a time."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for number, crop in enumerate(crops):
        by_size.setdefault(crop.shape, []).append(number)
    for numbers in by_size.values():
        for start in range(0, len(numbers), _BATCH):
            yield numbers[start : start + _BATCH]


def _resized(crop_rgb: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(crop_rgb, (width_px, height_px), interpolation=cv2.INTER_LINEAR), np.uint8)


def _asked(reference: Reference, kind: str, people: NDArray[np.int64], crops: list[NDArray[np.uint8]]) -> SizedCutouts:
    fits = np.stack([fitted(crop, reference.trained.preprocessing) for crop in crops])
    return SizedCutouts(kind, people, tuple(crops), fits, reference.trained.probabilities(fits))
