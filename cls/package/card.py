"""What a package is, on one page for people and as one JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cls.errors import PackageError
from cls.files import sha256_of_file
from cls.metrics.scores import NOT_MEASURED, LabelMetrics, Measures, Metrics
from cls.package.archive import open_package
from cls.package.meta import META_FILE_NAME, ModelMeta, PeoplePart, read_meta
from cls.package.packing import REBUILD_ONNX, VECTORS_FOLDER, people_in
from cls.package.signature import PackageSignature
from cls.package.verifying import signed_by
from cls.pages.render import write_page
from cls.wording import change, counted, magnitude, score

_DIGEST_SIGNS = 16
_PARTS = {"validation": " of the validation part", "training": " of the training part", "photos": " in other photos"}


@dataclass(frozen=True)
class Card:
    """A package, described.

    Attributes:
        files: name -> bytes, of the zip's files or of the folder's.
        sha256: of the zip; empty for a folder.
        signature: of the zip; None where there is none.
    """

    path: Path
    meta: ModelMeta
    files: Mapping[str, int]
    sha256: str = ""
    people: int = 0
    signature: PackageSignature | None = None

    def to_json(self) -> str:
        """One JSON object: the card's own values, and all of meta.json under `meta`."""
        content = {
            "path": str(self.path),
            "sha256": self.sha256 or None,
            "files": dict(self.files),
            "carries_onnx": REBUILD_ONNX in self.files,
            "carried_people": self.people,
            "signed_by": list(self.signature.key_ids) if self.signature else [],
            "meta": self.meta.model_dump(mode="json"),
        }
        return json.dumps(content, ensure_ascii=False, indent=2)

    def text(self) -> str:
        """The card, for a terminal."""
        labels = self._labels()
        width = max(len(row[0]) for row in labels)
        of_labels = (
            "in output order: threshold; cross-validated F1; F1 with the thresholds chosen on the\n"
            "same people; positives in validation"
        )
        compared = "with the trained network; differences are rounded up to a millionth"
        lines = [
            str(self.path),
            *(_row(key, value) for key, value in self._facts()),
            _row("labels", of_labels),
            *(
                f"  {name:<{width}}  {limit}  {cross:>5}  {own:>5}  of {count}"
                for name, limit, cross, own, count in labels
            ),
            _row("parity", compared if self.meta.parity else "not measured"),
            *("  " + f"{name}: {found}".replace("\n", "\n    ") for name, found in self._parity()),
            _row("digests", "SHA-256"),
            *(f"  {name}: {digest}" for name, digest in self._digests()),
        ]
        return "\n".join(lines)

    def write_page(self, path: Path) -> None:
        """Writes the card as a page.

        Raises:
            FileError: the file cannot be written.
        """
        values = {
            "group": self.meta.group,
            "facts": self._facts(),
            "labels": self._labels(),
            "parity": self._parity(),
            "digests": self._digests(),
        }
        write_page(path, "package/model_card.html", values)

    def _facts(self) -> list[tuple[str, str]]:
        """Key and value, of one line or several."""
        meta, training = self.meta, self.meta.training
        version = f"version {meta.model_version}" if meta.model_version else "not published yet"
        return [
            ("group", f"{meta.group}, {version}"),
            ("run", f"{training.run} ({training.arch}), {meta.created_at}, CLS {meta.code_version}"),
            *self._contents(),
            *self._signature(),
            *self._preprocessing(),
            *self._tensors(),
            ("validation", "\n".join(self._scores())),
        ]

    def _contents(self) -> list[tuple[str, str]]:
        package = self.meta.package
        lines = [("format", package.format)] if package else []
        shown = {name: size for name, size in self.files.items() if not name.startswith(VECTORS_FOLDER)}
        sizes = ", ".join(f"{name} ({_size(size)})" for name, size in sorted(shown.items()))
        lines.append(("files", sizes))
        vectors = [size for name, size in self.files.items() if name not in shown]
        if vectors:
            files = f"{counted(len(vectors), 'file')} ({_size(sum(vectors))})"
            lines.append(("vectors", f"{files}: test vectors for other clients; cls package vectors"))
        if package and package.plan:
            plan = package.plan
            needs = f"compute capability {plan.compute_capability} and TensorRT {plan.tensorrt_version}"
            lines.append(("GPU", f"needs {needs} (built on {plan.gpu})"))
        elif "model.plan" in self.files:
            lines.append(("GPU", "needs the GPU model and TensorRT version it was built with (not recorded)"))
        if REBUILD_ONNX in self.files:
            lines.append(("rebuild", "includes the ONNX model: cls package rebuild"))
        if self.people:
            lines.append(("people", f"contains cut-outs of {counted(self.people, 'person')}: personal data"))
        return lines

    def _signature(self) -> list[tuple[str, str]]:
        if not self.sha256:
            return []  # a folder: its zips are signed
        checked = ", which `cls package verify --trust KEYS` checks" if self.signature else ""
        return [("signature", f"{signed_by(self.signature)}{checked}")]

    def _preprocessing(self) -> list[tuple[str, str]]:
        meta = self.meta
        preprocessing = meta.preprocessing
        background = "of the photo" if preprocessing.is_background_kept else f"flat, RGB {list(preprocessing.fill_rgb)}"
        size = f"{preprocessing.height_px}x{preprocessing.width_px} (height x width)"
        lines = [
            f"crop of a person, margin {preprocessing.margin_rel:g} of the longer side, background {background}",
            f"{preprocessing.resize} to {size}, {preprocessing.interpolation}",
        ]
        if meta.is_end_to_end:
            lines.append("end-to-end: uint8 RGB of any size in, probabilities out")
        else:
            lines.append(
                f"{preprocessing.colour_order}, {preprocessing.scale}, minus {_numbers(preprocessing.mean_rgb)},"
                f" divided by {_numbers(preprocessing.std_rgb)}, {preprocessing.layout}; then {meta.activation}"
            )
        models = ", ".join(meta.person.segmentation_models) or "unknown"
        return [("input", "\n".join(lines)), ("segmentation", f"model {models}"), *self._steps()]

    def _steps(self) -> list[tuple[str, str]]:
        steps = self.meta.all_steps
        return [
            ("before model", ", ".join(steps.before)),
            ("in model", ", ".join(steps.inside)),
            ("after model", ", ".join(steps.after)),
        ]

    def _tensors(self) -> list[tuple[str, str]]:
        pairs = (("input tensor", self.meta.inputs), ("output tensor", self.meta.outputs))
        return [
            (kind, f"{tensor.name}: {tensor.datatype} {list(tensor.shape)}")
            for kind, tensors in pairs
            for tensor in tensors
        ]

    def _labels(self) -> list[tuple[str, str, str, str, str]]:
        """Label, threshold, cross-validated F1, F1 with the thresholds chosen on these people, how many have it."""
        validation = self.meta.validation or Metrics()
        own, cross_validated = validation.labels, validation.cross_validated.labels
        rows = []
        for label in self.meta.labels:
            of_label = own.get(label, LabelMetrics())
            of_people = of_label.positives if "positives" in of_label.model_fields_set else "?"
            cross = cross_validated.get(label, Measures())
            threshold = f"{self.meta.thresholds[label]:.4f}"
            rows.append((label, threshold, score(cross.f1), score(of_label.f1), str(of_people)))
        return rows

    def _scores(self) -> list[str]:
        """Means over labels on the validation part, the cross-validated ones first."""
        validation = self.meta.validation
        if validation is None:
            is_without = "validation" in self.meta.metrics
            return ["none: trained on all people" if is_without else NOT_MEASURED]
        found = validation.scores
        lines = [f"{found.headline()}"]
        if found.ma.value is not None:
            lines.append(f"cross-validated mA {found.ma.text()}, {found.ma.over}")
        for name, mean in (("mAP", found.ap), ("F1 with the thresholds chosen on the same people", found.f1_in_sample)):
            if mean.value is not None:
                lines.append(f"{name} {mean.text()}, {mean.over}")
        return lines

    def _parity(self) -> list[tuple[str, str]]:
        """Format, and what its parity check found."""
        found = []
        for name, report in self.meta.parity.items():
            text = (
                f"{people_in_words(report.samples, report.part)},"
                f" {counted(report.label_flips, 'changed decision')}"
                f" ({report.label_flips_beyond_limit} more than {report.limit:g} from the threshold), max difference"
                f" of probabilities {magnitude(report.max_probability_difference)}{_f1(report.f1_change)}"
                f"{_ece(report.ece)} ({report.runtime})"
            )
            kept = f"\nkept in float32: {', '.join(report.kept_in_float)}" if report.kept_in_float else ""
            found.append((name, text + kept))
        return found

    def _digests(self) -> list[tuple[str, str]]:
        recorded = self.meta.digests
        parts = {"dataset": recorded.dataset, "split": recorded.split, "weights": recorded.weights}
        parts |= {name: digests[0] for name, digests in recorded.segmentation_models.items() if digests}
        parts |= self.meta.package.files if self.meta.package else recorded.files
        parts = {name: digest for name, digest in parts.items() if not name.startswith(VECTORS_FOLDER)}
        lines = [(name, f"{digest[:_DIGEST_SIGNS]}…") for name, digest in parts.items()]
        return [*lines, (f"{self.path.name} itself", self.sha256)] if self.sha256 else lines


def people_in_words(count: int, part: PeoplePart | None) -> str:
    """`195 people of the validation part`: on whom a parity was measured."""
    return counted(count, "person") + ("" if part is None else _PARTS[part])


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"


def _f1(changed_by: float | None) -> str:
    return "" if changed_by is None else f", F1 {change(changed_by)}"


def _ece(error: float | None) -> str:
    return "" if error is None else f", calibration error {score(error, 4)}"


def card_of(path: Path) -> Card:
    """Describes a package.

    Raises:
        PackageError: it is neither, or broken.
    """
    if path.is_dir():
        meta = read_meta(path / META_FILE_NAME)
        files = {file.name: file.stat().st_size for file in path.iterdir() if file.is_file() and file.name[0] != "."}
        return Card(path, meta, files)
    with open_package(path) as package:
        meta = package.meta()
        files = {name: package.size_bytes(name) for name in package.names}
        signature = package.signature()
    return Card(path, meta, files, sha256_of_file(path), people_in(path), signature)


def zips_of(path: Path) -> list[Path]:
    """The packages meant by a path: a zip itself, or the zips of a folder.

    Raises:
        PackageError: there are none.
    """
    if not path.is_dir():
        return [path]
    zips = sorted(path.glob("*.zip"))
    if not zips:
        raise PackageError("holds no zip", code="no_packages", where=path, hint="make one with `cls export`")
    return zips


def _row(key: str, value: str) -> str:
    """A row of the card in a terminal; further lines of the value stand below its first."""
    return f"{key:<14} " + value.replace("\n", "\n" + " " * 15)


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
