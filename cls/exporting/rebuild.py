"""A package made again out of the ONNX it carries, on the machine that serves it, and proven there."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cls.bottle.layout import Bottle
from cls.errors import ClsError, ExportError, FileError, PackageError, UsageError
from cls.exporting.formats.files import FILES, REBUILDABLE, Format, RebuildConfig, why_not
from cls.exporting.package_writer import PackageWriter
from cls.exporting.parity.check import CandidateConversion, ParityCheck
from cls.exporting.parity.report import ParityReport
from cls.exporting.parity.samples import ParitySample, Reference, choose_samples, reference_of
from cls.files import write_bytes_atomic
from cls.package.archive import open_package
from cls.package.keys import TrustedKeys, read_signing_key
from cls.package.meta import ModelMeta
from cls.package.packing import REBUILD_ONNX, REBUILD_SAMPLES, CarriedSamples, read_samples
from cls.package.verifying import verify_zip
from cls.people.photos import PHOTO_SUFFIXES, read_photo, whole_photo
from cls.runtimes.local import OnnxRuntime
from cls.runtimes.open import classifier_of_meta
from cls.wording import counted

_log = logging.getLogger("cls.exporting")


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild made.

    Attributes:
        proof: the people and the runtime it was compared on, in words.
        report_file: the whole report; its page shows people.
    """

    path: Path
    meta: ModelMeta
    report: ParityReport
    proof: str
    report_file: Path


@dataclass(frozen=True, eq=False)
class _Source:
    """What a zip carries along."""

    meta: ModelMeta
    onnx: bytes
    samples: CarriedSamples | None


def rebuild_package(
    zip_path: Path, bottle: Bottle, config: RebuildConfig | None = None, *, trust: TrustedKeys | None = None
) -> Rebuilt:
    """Makes a package again and proves it: its decisions are those of the trained network, or nothing is written.

    Args:
        zip_path: a package that carries its ONNX: the ONNX's own, or a plan's.
        bottle: the data folder; only its configuration is used, and its cache for plans.
        config: what to make.
        trust: keys of which one must have signed the package; None: signatures are not checked.

    Raises:
        PackageError: the package is not in order, or carries no ONNX.
        SignatureError: a signature is asked for, and there is no good one.
        ExportError: this machine cannot make the format, or there is nobody to prove it on.
        ParityError: what was made decides otherwise.
        UsageError: the format is not made of what the package carries.
        FileError: another file is where the package would go, or the private key cannot be read.
    """
    config = config or RebuildConfig()
    passphrase = bottle.settings.signing_passphrase
    signer = None if config.sign is None else read_signing_key(config.sign, passphrase=passphrase)
    source = _source_of(zip_path, trust)
    name = config.format_name or _own_format(source.meta)
    _refuse_impossible(name, source.meta)
    output = config.output or zip_path.with_name(f"{FILES[name].archive.removesuffix('.zip')}_rebuilt.zip")
    _refuse_replacing(output, zip_path, source.meta, name)
    reference, proof = _reference(source, zip_path, config.photos)
    report_file = output.with_name(f"{output.stem}_parity_report.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".rebuild-") as temporary:
        folder = Path(temporary)
        write_bytes_atomic(folder / FILES["onnx"].model, source.onnx)
        _convert(name, reference, folder, bottle.cache)
        onnx = folder / FILES["onnx"].model
        writer = PackageWriter(bottle, folder, source.meta, lambda _: onnx, source.samples, signer, is_rebuilding=True)
        archive = writer.write_unchecked(name)
        files = tuple(folder / file for file in FILES[name].files)
        check = ParityCheck(reference, bottle, report_file)
        report = check.require(CandidateConversion(name, FILES[name].precision, archive, files, onnx))
        meta = writer.write_checked(name, report, output)
    return Rebuilt(output, meta, report, proof, report_file)


def _source_of(zip_path: Path, trust: TrustedKeys | None) -> _Source:
    """What a package carries, after it was checked: a tampered ONNX must not be served."""
    verify_zip(zip_path, trust=trust).raise_if_bad()
    with open_package(zip_path, trust=trust) as package:
        meta = package.meta()
        own = meta.package.format if meta.package else "onnx" if package.model_name == "model.onnx" else ""
        name = REBUILD_ONNX if REBUILD_ONNX in package.names else "model.onnx" if own == "onnx" else None
        if name is None:
            raise PackageError(
                "carries no ONNX to rebuild it from",
                code="no_onnx",
                where=zip_path,
                hint="rebuild from model_onnx.zip, or export again",
            )
        content = package.read(REBUILD_SAMPLES) if REBUILD_SAMPLES in package.names else None
        samples = None if content is None else read_samples(content, meta, f"{zip_path}!{REBUILD_SAMPLES}")
        return _Source(meta, package.read(name), samples)


def _refuse_replacing(output: Path, zip_path: Path, meta: ModelMeta, name: Format) -> None:
    """Nothing is replaced but the same rebuilt package of before."""
    if not output.exists():
        return
    hint = "give another --output"
    if output.resolve() == zip_path.resolve():
        raise UsageError(f"--output {output} is the package it is to be made of", code="same_file", hint=hint)
    try:
        with open_package(output) as package:
            there = package.meta()
    except (ClsError, OSError):
        raise FileError(
            "is there and is no package, so it is not replaced", code="not_a_package", where=output, hint=hint
        ) from None
    own = (meta.group, meta.training.run, meta.is_end_to_end, name)
    other = (there.group, there.training.run, there.is_end_to_end, there.package.format if there.package else "")
    if own != other:
        raise FileError(
            f"is there and is another package ({other[3] or 'older'}, of run {other[1]} of group '{other[0]}'"
            f"{', --end-to-end' if other[2] else ''}), so it is not replaced",
            code="other_package",
            where=output,
            hint=hint,
        )


def _own_format(meta: ModelMeta) -> Format:
    for name in REBUILDABLE:
        if meta.package is not None and meta.package.format == name:
            return name
    return "trt"


def _refuse_impossible(name: Format, meta: ModelMeta) -> None:
    own = meta.package.format if meta.package else "onnx"
    if name != own and "trt_int8" in (name, own):
        raise UsageError(
            f"{name} is not made of what a package of {own} carries",
            code="wrong_source_package",
            hint="an 8-bit plan is made again from model_trt_int8.zip, whose ONNX is 8-bit; others from model_onnx.zip",
        )
    if name != "openvino" and meta.is_end_to_end:
        raise UsageError(
            f"{name} is not made of a network with its preprocessing inside",
            code="wrong_source_package",
            hint="use `cls export`",
        )
    reason = why_not(name)
    if reason is not None:
        other = f"name another one with --format: {', '.join(one for one in REBUILDABLE if why_not(one) is None)}"
        raise ExportError(
            f"{FILES[name].model} cannot be made on this machine: {reason}", code="format_unavailable", hint=other
        )


def _reference(source: _Source, zip_path: Path, photos: Path | None) -> tuple[Reference, str]:
    """Who it is proven on: real people, never noise, on which no decision is near a threshold."""
    meta, names = source.meta, (source.meta.inputs[0].name, source.meta.outputs[0].name)
    runtime = OnnxRuntime(source.onnx, zip_path, input_name=names[0], output_name=names[1])
    onnx = classifier_of_meta(meta, runtime, f"{zip_path}!{REBUILD_ONNX}")
    if source.samples is not None and photos is None:
        samples = source.samples
        count = len(samples.crops_rgb)
        pictures = tuple(f"carried person {number + 1}" for number in range(count))
        truth = samples.truth.astype(np.float64)
        parts = {found.part for found in meta.parity.values()}
        part = parts.pop() if len(parts) == 1 else None
        reference = Reference(onnx, pictures, samples.crops_rgb, samples.probabilities, truth, part=part)
        shown = counted(count, "person")
        return reference, f"{shown} carried along, compared with what the trained network said of them"
    if photos is None:
        raise ExportError(
            f"there is nobody to prove it on: the package carries no people ({REBUILD_SAMPLES})",
            code="no_samples",
            where=zip_path,
            hint="export with --carry-samples N, or give pictures of people with --photos DIR",
        )
    files = sorted(file for file in photos.rglob("*") if file.suffix.lower() in PHOTO_SUFFIXES)
    if not files:
        raise ExportError(
            "holds no picture to prove it on",
            code="no_photos",
            where=photos,
            hint="give a folder of pictures of people",
        )
    people = choose_samples(_whole_photos(files, photos))
    reference = reference_of(onnx, people, part="photos")
    shown = counted(len(reference), "picture")
    return reference, f"{shown} of {photos}, compared with the carried ONNX ({runtime.description})"


def _whole_photos(files: Sequence[Path], folder: Path) -> list[ParitySample]:
    """Each picture as one person; unreadable files are logged and left out."""
    people = []
    for file in files:
        try:
            people.append(ParitySample(file, whole_photo(read_photo(file))))
        except FileError as error:
            _log.warning("left out: %s", error.line())
    if not people:
        raise ExportError(
            "holds no picture that can be read",
            code="unreadable_photos",
            where=folder,
            hint="give a folder of pictures of people",
        )
    return people


def _convert(name: Format, reference: Reference, folder: Path, cache: Path) -> None:
    """Writes the files of a format from the ONNX in the folder, by way of the format it is made from."""
    source = FILES[name].source
    if source is not None and source != "onnx":
        _convert(source, reference, folder, cache)
    source_path, path = folder / FILES[source or "onnx"].model, folder / FILES[name].model
    preprocessing = reference.trained.preprocessing
    if name == "onnx_fp16":
        from cls.exporting.formats.calibration_images import CalibrationImages
        from cls.exporting.formats.onnx_fp16 import write_onnx_fp16

        write_onnx_fp16(source_path, CalibrationImages(preprocessing.normalise(reference.crops_rgb)), path)
    elif FILES[name].platform == "openvino":
        from cls.exporting.convert import write_openvino

        write_openvino(source_path, path)
    else:
        from cls.exporting.formats.tensorrt import write_plan

        write_plan(source_path, preprocessing, path, cache)
