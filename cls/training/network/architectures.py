"""Backbones by short name, or by any name timm knows."""

from __future__ import annotations

import difflib

from cls.errors import TrainingError

SHORT_NAMES = {
    "eff": "tf_efficientnetv2_s",
    "eff_l": "tf_efficientnetv2_l",
    "res": "resnet50",
    "swin": "swin_small_patch4_window7_224",
    "vit_l_16": "vit_large_patch16_224",
    "lite0": "tf_efficientnet_lite0",
    "mnv3": "mobilenetv3_small_100",
}


def timm_name(arch: str) -> str:
    """The timm model behind a short name, or the name itself where timm knows it.

    Raises:
        TrainingError: neither; suggests the closest names.
    """
    if arch in SHORT_NAMES:
        return SHORT_NAMES[arch]
    import timm

    if timm.is_model(arch):
        return arch
    close = difflib.get_close_matches(arch, [*SHORT_NAMES, *timm.list_models()], n=3, cutoff=0.5)
    shorts = ", ".join(SHORT_NAMES)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise TrainingError(
        f"there is no architecture '{arch}'",
        hint=f"{meant}Short names: {shorts}; or any name that `timm.list_models()` lists",
    )
