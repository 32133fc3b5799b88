"""What every way of running a network looks like, and the classifier around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cls.errors import PredictionError, UsageError
from cls.people.photos import Person
from cls.people.preprocess import Preprocessing
from cls.wording import counted

DEFAULT_BATCH = 16


class Runtime(Protocol):
    """Runs a network, wherever it is."""

    @property
    def description(self) -> str:
        """What runs it, with its version, e.g. `ONNX Runtime 1.32.0`."""
        ...

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Images float32 (batch, 3, height, width), normalised -> logits float32 (batch, labels).

        A network that has everything inside takes uint8 (batch, height, width, 3) and answers probabilities.
        """
        ...


@dataclass(frozen=True)
class Classifier:
    """A network with everything needed to use it. Made by `cls.runtimes.open.open_classifier`.

    Attributes:
        name: the run it came from, e.g. `v__0_train_eff_4_0.001`.
        labels: in output order.
        thresholds: a label is chosen at or above its probability; in the labels' order.
        source: file or URL it was opened from.
        is_end_to_end: normalisation and sigmoid are inside the network: its runtime takes uint8 cut-outs and answers
            probabilities.
        weights_sha256: digest of the trained weights; empty where it is not known.
        version: semantic version it was published under; empty for a model that came from no storage.
    """

    group: str
    name: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    preprocessing: Preprocessing
    runtime: Runtime
    source: str
    is_end_to_end: bool = False
    weights_sha256: str = ""
    version: str = ""

    def probabilities(self, crops_rgb: NDArray[np.uint8], *, batch: int = DEFAULT_BATCH) -> NDArray[np.float32]:
        """Cut-outs, as `preprocessing.cut` makes them -> a probability for each label.

        Args:
            crops_rgb: uint8 (people, height, width, 3).
            batch: how many go through the network at once.

        Returns:
            float32 (people, labels), 0 to 1.

        Raises:
            PredictionError: the network answers another shape, or something that is not a number.
        """
        parts = [
            self._probabilities(crops_rgb[start : start + batch]) for start in range(0, max(len(crops_rgb), 0), batch)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.labels)), np.float32)

    def of_people(self, image_rgb: NDArray[np.uint8], people: Sequence[Person]) -> NDArray[np.float32]:
        """A photo as displayed and the people in it -> probabilities, float32 (people, labels)."""
        crops = [self.preprocessing.cut(image_rgb, person) for person in people]
        return self.probabilities(np.stack(crops)) if crops else np.zeros((0, len(self.labels)), np.float32)

    def chosen(self, probs: NDArray[np.float32] | Sequence[float]) -> tuple[str, ...]:
        """The labels whose probability reaches their threshold: (labels,) -> names."""
        values = probs if isinstance(probs, Sequence) else probs.tolist()
        return tuple(
            label
            for label, prob, threshold in zip(self.labels, values, self.thresholds, strict=True)
            if prob >= threshold
        )

    def with_threshold(self, threshold: float) -> Classifier:
        """The same, with one threshold for all labels.

        Raises:
            UsageError: it is not a number from 0 to 1.
        """
        if not 0 <= threshold <= 1:
            raise UsageError(f"a threshold is a number from 0 to 1, and not {threshold:g}", code="out_of_range")
        return replace(self, thresholds=(threshold,) * len(self.labels))

    def _probabilities(self, crops_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        images = crops_rgb if self.is_end_to_end else self.preprocessing.normalise(crops_rgb)
        logits = self.runtime.logits(images)
        expected = (len(crops_rgb), len(self.labels))
        if logits.shape != expected:
            raise PredictionError(
                f"the network answers shape {logits.shape}, and {expected} is expected for"
                f" {counted(len(self.labels), 'label')}"
                f" ({', '.join(self.labels[:4])}{', …' if len(self.labels) > 4 else ''})",
                code="wrong_output_shape",
                where=self.source,
                hint="model and meta.json do not belong together: export again",
            )
        if not np.isfinite(logits).all():
            raise PredictionError(
                "the network answers something that is not a number",
                code="not_a_number",
                where=self.source,
                hint="export again; if it stays, the training went wrong",
            )
        return logits if self.is_end_to_end else sigmoid(logits)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits -> probabilities, without overflow."""
    clipped = np.clip(logits, -80, 80)
    return np.asarray(1 / (1 + np.exp(-clipped)), np.float32)
