"""A package opened and run as its users will, where this machine has what it takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from cls.bottle.layout import Bottle
from cls.errors import ClsError
from cls.package.archive import open_package
from cls.package.keys import TrustedKeys
from cls.package.vectors import has_vectors, read_vectors
from cls.package.verifying import Verification
from cls.runtimes.conformance import check_vectors
from cls.runtimes.open import open_classifier
from cls.runtimes.tensorrt import why_no_tensorrt
from cls.wording import counted

_BATCHES = (1, 3)


def try_package(found: Verification, bottle: Bottle, trust: TrustedKeys | None = None) -> None:
    """Opens a package and runs grey pictures through it; enters whether it runs, which says nothing of how well.

    Args:
        found: of `verify_zip`, without problems.
        bottle: the data folder.
        trust: keys of which one must have signed it; None: signatures are not checked.
    """
    with open_package(found.path, trust=trust) as package:
        model_name = package.model_name
        vectors = read_vectors(package, package.meta()) if has_vectors(package) else None
    reason = why_not_run(model_name)
    if reason is not None:
        found.not_checked.append(f"{model_name} was not run: {reason}")
        return
    try:
        classifier = open_classifier(str(found.path), bottle, is_verified=True, trust=trust)
        size = classifier.preprocessing
        for batch in _BATCHES:
            classifier.probabilities(np.full((batch, size.height_px, size.width_px, 3), 127, np.uint8), batch=batch)
        results = [] if vectors is None else check_vectors(classifier, vectors)
    except ClsError as error:
        found.problems.append(f"{model_name} cannot be run: {error.what}")
    else:
        batches = " and ".join(str(batch) for batch in _BATCHES)
        missed = [result.name for result in results if not result.is_met]
        if missed:
            found.problems.append(f"conformance vectors are not met: {', '.join(missed)}; see cls package vectors")
        elif results:
            found.checked.append(f"{counted(len(results), 'conformance vector')} met, from photo to probabilities")
        found.checked.append(f"{model_name} answers at batch {batches} in {classifier.runtime.description}")


def why_not_run(model_name: str) -> str | None:
    """Why a model file cannot be run on this machine; None when it can."""
    suffix = Path(model_name).suffix
    if suffix == ".plan":
        return why_no_tensorrt()
    if suffix == ".xml" and importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed"
    return None
