"""`cls yolo …`: annotation archives -> YOLO dataset -> a person segmenter, trained and converted."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cls.cli.command import Command, add_options, bottle_of, given
from cls.options import by_field
from cls.wording import counted, score
from cls.yolo.config import DatasetConfig, YoloTraining

if TYPE_CHECKING:
    from cls.yolo.dataset import DatasetReport
    from cls.yolo.merging import MergeReport

_PHOTOS = 24


def _add_parse_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input-dir", type=Path, required=True, metavar="D", help="folder of zips with images/ and annotations/"
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="D", help="folder to write images/ and annotations/ into"
    )
    parser.add_argument("--skip-empty", action="store_true", help="leave out pictures without annotations")


def _parse(options: argparse.Namespace) -> None:
    from cls.settings import load_settings
    from cls.yolo.coco import list_archives, open_archives
    from cls.yolo.merging import ANNOTATIONS, merge_archives

    load_settings(options.cfg)
    archives = open_archives(list_archives(options.input_dir))
    report = merge_archives(archives, options.output_dir, is_empty_kept=not options.skip_empty)
    for line in merge_lines(report):
        print(line)
    print(f"annotations: {options.output_dir / ANNOTATIONS}; report: {options.output_dir / 'report.json'}")
    print(
        "next: python cls/instance_segmentation/create_yolo_dataset.py"
        f" --src-dir {options.output_dir} --dst-dir {options.output_dir}_yolo"
    )


def merge_lines(report: MergeReport) -> list[str]:
    """The report for a reader, one statement a line."""
    by_class = ", ".join(f"{count} {name}" for name, count in sorted(report.shapes.items())) or "none"
    found = f"{counted(report.pictures, 'picture')} from {counted(report.archives, 'archive')}"
    lines = [f"{found}, {report.empty} of them without people", f"outlined: {by_class}"]
    if report.crowds:
        lines.append(
            f"{counted(report.crowds, 'outline')} marked as a crowd (painted masks), each of them taken as one person"
        )
    if report.turned:
        lines.append(f"{counted(report.turned, 'picture')} turned upright")
    if report.duplicates:
        lines.append(f"{counted(len(report.duplicates), 'picture')} of several archives kept once")
    if report.problems:
        lines.append(f"pictures or outlines left out: {len(report.problems)}, e.g. {report.problems[0]}")
    return lines


def _add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--src-dir", type=Path, required=True, metavar="D", help="folder written by parse_archives.py")
    parser.add_argument("--dst-dir", type=Path, required=True, metavar="D", help="folder of the dataset to write")
    parser.add_argument(
        "--existing-datasets", type=Path, metavar="D", help="a YOLO dataset, or a folder of several, to merge in"
    )
    add_options(parser, DatasetConfig)


def _dataset(options: argparse.Namespace) -> None:
    from cls.settings import load_settings

    load_settings(options.cfg)

    from cls.yolo.dataset import create_dataset
    from cls.yolo.yolo_files import DATA_FILE, find_datasets

    config = DatasetConfig(**by_field(DatasetConfig, given(options, DatasetConfig)))
    existing = find_datasets(options.existing_datasets) if options.existing_datasets else []
    report = create_dataset(options.src_dir, options.dst_dir, existing, config)
    for line in dataset_lines(report):
        print(line)
    print(f"dataset: {options.dst_dir / DATA_FILE}")
    print(
        "next: python cls/instance_segmentation/train_yolo_seg.py"
        f" --data {options.dst_dir / DATA_FILE} --model yolov8n-seg.yaml --epochs 100"
    )


def dataset_lines(report: DatasetReport) -> list[str]:
    """The report for a reader, one statement a line."""
    lines = []
    for part, people in report.people.items():
        outlined = ", ".join(f"{count} {name}" for name, count in sorted(people.items())) or "nobody"
        lines.append(f"{part}: {counted(report.pictures[part], 'picture')}, outlined: {outlined}")
    if report.duplicates:
        known = counted(len(report.duplicates), "picture")
        lines.append(f"already in an existing dataset, and kept in its part there: {known}")
    if report.problems:
        lines.append(f"{counted(len(report.problems), 'picture')} left out, e.g. {report.problems[0]}")
    return lines


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="the dataset's data.yaml")
    parser.add_argument(
        "--model",
        default="yolov8s-seg.pt",
        help="checkpoint (.pt), or a description (.yaml) to start from random weights (default: yolov8s-seg.pt)",
    )
    parser.add_argument(
        "--project", type=Path, default=YoloTraining.project, metavar="D", help="folder of the training runs"
    )
    add_options(parser, YoloTraining)
    parser.add_argument(
        "--fresh", action="store_true", help="start a new run even where a run of the same arguments was cut off"
    )


def _train(options: argparse.Namespace) -> None:
    from cls.machine import wait_passively

    bottle = bottle_of(options)
    words = by_field(YoloTraining, given(options, YoloTraining))
    training = YoloTraining(data=options.data, model=options.model, project=options.project, **words)
    wait_passively()

    from cls.yolo.training import is_offline_wanted, resolve_model, train_model

    model = resolve_model(training.model, bottle.cache / "pretrained", is_offline=is_offline_wanted())
    training = replace(training, model=model)
    trained = train_model(training, is_fresh=options.fresh)
    print(
        "masks on the validation part: "
        + ", ".join(f"{name} {score(value)}" for name, value in trained.metrics.items())
    )
    print(f"curves and pictures: {trained.folder}")
    print(f"best model: {trained.best}")
    print(f"next: python cls/classification/segment_builder.py --model-path {trained.best}")


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--src-path", type=Path, required=True, metavar="FILE", help="the checkpoint, best.pt")
    parser.add_argument("--dst-path", type=Path, required=True, metavar="D", help="folder to write best.onnx into")
    parser.add_argument(
        "--pictures", type=Path, metavar="D", help="photos to compare the two models on (default: the bottle's)"
    )
    parser.add_argument("--require", choices=["trt"], help="fail when the TensorRT engine cannot be made")


def _export(options: argparse.Namespace) -> None:
    from cls.errors import UsageError
    from cls.machine import wait_passively
    from cls.segmentation.segmenter import check_model_file

    bottle = bottle_of(options)
    wait_passively()
    check_model_file(options.src_path)
    if options.src_path.suffix.lower() != ".pt":
        raise UsageError("only a checkpoint (.pt) can be converted", code="not_a_checkpoint", where=options.src_path)
    if options.dst_path.is_file():
        raise UsageError(
            "is a file, a folder is needed",
            code="not_a_folder",
            where=options.dst_path,
            hint="give a folder as --dst-path",
        )

    from cls.segmentation.builder import list_pictures
    from cls.yolo.exporting import export_model

    folder = options.pictures or bottle.pictures
    names = list_pictures(folder) if options.pictures or folder.is_dir() else []
    photos = [folder / name for name in names[:: max(len(names) // _PHOTOS, 1)][:_PHOTOS]]
    made = export_model(options.src_path, options.dst_path, photos, is_engine_required=options.require == "trt")
    print(f"ONNX: {made.onnx}")
    if made.agreement is None:
        print("not compared with the checkpoint: there are no photos; give some with --pictures D")
    else:
        print(
            f"agrees with the checkpoint on {counted(made.agreement.photos, 'photo')}:"
            f" {counted(made.agreement.pairs, 'person')},"
            f" boxes within {made.agreement.box_px:.3f} px, mask IoU {score(made.agreement.mask_iou_mean, 4)}"
            f" (lowest {score(made.agreement.mask_iou_min, 4)})"
        )
    print(f"TensorRT: {made.engine}" if made.engine else f"TensorRT: no engine was made: {made.no_engine}")
    print(f"next: python cls/classification/segment_builder.py --model-path {made.onnx}")


PARSE = Command("yolo parse", "annotation archives -> one COCO data set", _add_parse_arguments, _parse, extra="yolo")
DATASET = Command(
    "yolo dataset", "COCO data set -> YOLO segmentation dataset", _add_dataset_arguments, _dataset, extra="yolo"
)
TRAIN = Command("yolo train", "train a person segmenter", _add_train_arguments, _train, extra="yolo")
EXPORT = Command("yolo export", "person segmenter -> ONNX, TensorRT", _add_export_arguments, _export, extra="yolo")
