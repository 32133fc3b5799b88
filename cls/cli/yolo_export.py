"""Converts a trained person segmenter to ONNX and, where there is a GPU, to a TensorRT engine."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.cli.command import Command, bottle_of
from cls.wording import counted, score

_PHOTOS = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `export_to_trt.py`."""
    parser.add_argument("--src-path", type=Path, required=True, metavar="FILE", help="the checkpoint, best.pt")
    parser.add_argument("--dst-path", type=Path, required=True, metavar="D", help="folder to write best.onnx into")
    parser.add_argument(
        "--pictures", type=Path, metavar="D", help="photos to compare the two models on (default: the bottle's)"
    )
    parser.add_argument("--require", choices=["trt"], help="fail when the TensorRT engine cannot be made")


def run(options: argparse.Namespace) -> None:
    """Exports and prints what was made and how well it agrees."""
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


COMMAND = Command("yolo export", "person segmenter -> ONNX, TensorRT", add_arguments, run)
