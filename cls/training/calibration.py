"""Temperature: one number by which logits are divided, so that probabilities are as sure as they are right.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2. The order of a label's people stays.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cls.errors import TrainingError
from cls.files import write_bytes_atomic
from cls.training.network import head_of

# A network that is further off than this has not learnt anything to be calibrated.
_COLDEST, _HOTTEST = 0.2, 5.0
_FEWEST_OF_EACH = 10
_CHANGES_NOTHING = "1 (nothing is changed): "


@dataclass(frozen=True)
class Calibration:
    """By what logits were divided, and what that was good for.

    Attributes:
        temperature: above 1: the network was too sure; 1: as it was.
        source: where it comes from, or why it is 1.
        ece_before: expected calibration error of all decisions together, 15 bins of equal width, with temperature 1.
        ece_after: the same with the temperature, which was chosen on these very people.
        ece_cross_fitted: the same, each fold of units with the temperature chosen on the others: the honest number.
        nll_before: mean negative log-likelihood of a decision with temperature 1.
        nll_after: the same with the temperature.
    """

    temperature: float
    source: str
    ece_before: float | None = None
    ece_after: float | None = None
    ece_cross_fitted: float | None = None
    nll_before: float | None = None
    nll_after: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metrics.json."""
        return asdict(self)


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.float64]) -> tuple[float, str]:
    """The temperature with the largest likelihood.

    Args:
        logits: (samples, labels).
        labels: (samples, labels): 1, 0, or NaN for unknown.

    Returns:
        The temperature, 0.2 to 5, and where it comes from; 1 with fewer than 10 positives or negatives in all, and
        where the likelihood is largest outside those bounds.
    """
    is_known = ~np.isnan(labels)
    known_logits, truth = logits[is_known], labels[is_known] > 0.5
    fewest = min(int(truth.sum()), int((~truth).sum()))
    if fewest < _FEWEST_OF_EACH:
        return 1.0, f"{_CHANGES_NOTHING}validation has fewer than {_FEWEST_OF_EACH} positives or negatives"
    # The likelihood has one top over 1/T (it is concave there), so it has one over log T.
    low, high = np.log(_COLDEST), np.log(_HOTTEST)
    golden = (np.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = _nll(known_logits, truth, np.exp(left)), _nll(known_logits, truth, np.exp(right))
    while high - low > 1e-4:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = _nll(known_logits, truth, np.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = _nll(known_logits, truth, np.exp(right))
    temperature = round(float(np.exp((low + high) / 2)), 4)
    if not _COLDEST * 1.01 < temperature < _HOTTEST / 1.01:
        return 1.0, f"{_CHANGES_NOTHING}no temperature from {_COLDEST:g} to {_HOTTEST:g} is best on validation"
    return temperature, "validation"


def negative_log_likelihood(logits: NDArray[np.float64], labels: NDArray[np.float64]) -> float | None:
    """Mean over the known decisions; None where there are none.

    Args:
        logits: (samples, labels).
        labels: (samples, labels): 1, 0, or NaN for unknown.
    """
    is_known = ~np.isnan(labels)
    return _nll(logits[is_known], labels[is_known] > 0.5, 1.0) if is_known.any() else None


def _nll(logits: NDArray[np.float64], truth: NDArray[np.bool_], temperature: float) -> float:
    return float(np.logaddexp(0, np.where(truth, -logits, logits) / temperature).mean())


def fold_into_head(network: nn.Module, temperature: float, images: torch.Tensor) -> str | None:
    """Divides the head's weight and bias, and with them all logits, by a temperature.

    Args:
        network: evaluation mode; changed.
        temperature: above 0.
        images: float32 (batch, 3, height, width), normalised: the division is checked on them.

    Returns:
        None when it is done; else why it cannot be, and the network is as it was.
    """
    try:
        head = head_of(network)
    except TrainingError as error:
        return error.what
    parameters = [head.weight, *([] if head.bias is None else [head.bias])]
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.inference_mode():
        expected = network(images) / temperature
    with torch.no_grad():
        for parameter in parameters:
            parameter.div_(temperature)
    with torch.inference_mode():
        is_divided = torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4)
    if is_divided:
        return None
    with torch.no_grad():
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
    return "the network's logits do not come from its last linear layer as they are"


def write_weights(network: nn.Module, path: Path, temperature: float) -> None:
    """Writes a checkpoint that `cls.training.checkpoint.load_network` reads; whole or not at all.

    Args:
        network: with the final weights.
        path: the file.
        temperature: what is folded into the head; for whoever looks.

    Raises:
        FileError: it cannot be written.
    """
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    content = io.BytesIO()
    torch.save({"state_dict": state, "temperature": temperature}, content)
    write_bytes_atomic(path, content.getvalue())
