"""Is the opened model the one that was asked for? A package says of which group it is; callers and servers name one."""

from __future__ import annotations

import logging

from cls.errors import PredictionError
from cls.package.model_name import model_name_of_group, names_model_of
from cls.runtimes.classifier import Classifier
from cls.runtimes.served_address import ServedAddress

_log = logging.getLogger("cls.prediction")


def check_group(classifier: Classifier, group: str | None, *, is_of_photos: bool = False) -> None:
    """Holds an opened model against the group that was named with it.

    Args:
        classifier: what was opened.
        group: what the caller named; None: nothing.
        is_of_photos: the group says which photos are looked at. Any model may look at them, so another group's is said
            in the log and used.

    Raises:
        PredictionError: the model is of another group than was asked for.
    """
    if group is None or classifier.group == group:
        return
    if not is_of_photos:
        raise PredictionError(
            f"the model is of group '{classifier.group}', and group '{group}' was asked for",
            where=classifier.source,
            hint=f"give the model of '{group}', or name the group '{classifier.group}'",
        )
    _log.warning("the model is of group '%s', and looks at the photos of group '%s'", classifier.group, group)


def check_served_name(classifier: Classifier, address: ServedAddress, group: str | None) -> None:
    """Holds a served model against the name it is served under.

    Args:
        classifier: what was opened.
        address: where it is served.
        group: what the caller named; None: nothing.

    Raises:
        PredictionError: it was found by the group's name, and is of another one.
    """
    if classifier.group != group and address.is_of_group:
        raise PredictionError(
            f"the model served as '{address.model}' is of group '{classifier.group}',"
            f" and group '{group}' was asked for",
            where=classifier.source,
            hint=f"publish that of '{group}' there, or give this one by its whole address, {address.url}",
        )
    # On other people's servers models may be called anything. Another group's than the caller's is told of once.
    if group in (None, classifier.group) and not names_model_of(address.model, classifier.group):
        _log.warning(
            "the model served as '%s' is of group '%s', whose model would be '%s'",
            address.model,
            classifier.group,
            model_name_of_group(classifier.group),
        )
