"""A valid meta.json to start from."""

from __future__ import annotations

from typing import Any

from cls.package.meta import ModelMeta, parse_meta


def meta_dict(labels: tuple[str, ...] = ("black hair", "blonde hair", "red hair"), **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "group": "hair_color",
        "labels": list(labels),
        "thresholds": dict.fromkeys(labels, 0.5),
        "activation": "sigmoid",
        "person": {
            "source": "instance segmentation",
            "frame": "box around the outline",
            "background": "flat",
            "segmentation_models": ["best"],
        },
        "preprocessing": {
            "resize": "letterbox",
            "interpolation": "area when shrinking, linear when enlarging",
            "colour_order": "RGB",
            "layout": "NCHW",
            "scale": "1/255",
            "background": "fill_rgb, blended by the mask after resizing",
            "height_px": 64,
            "width_px": 48,
            "mean_rgb": [0.485, 0.456, 0.406],
            "std_rgb": [0.229, 0.224, 0.225],
            "fill_rgb": [124, 116, 104],
            "margin_rel": 0.05,
            "is_background_kept": False,
        },
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 3, 64, 48]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, len(labels)]}],
        "metrics": {"f1": 0.93},
        "parity": {},
        "digests": {
            "dataset": "a" * 64,
            "split": "b" * 64,
            "weights": "c" * 64,
            "files": {},
            "segmentation_models": {"best": ["d" * 64]},
        },
        "training": {"run": "v__0_train_eff_4_0.001", "arch": "efficientnet_b0", "arguments": {"epochs": 1}},
        "code_version": "0.1.0",
        "created_at": "2026-01-02T03:04:05Z",
        **changes,
    }


def make_meta(labels: tuple[str, ...] = ("black hair", "blonde hair", "red hair"), **changes: Any) -> ModelMeta:
    return parse_meta(meta_dict(labels, **changes))
