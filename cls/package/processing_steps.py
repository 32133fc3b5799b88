"""The processing steps from a photo to labels: by the caller before the model, by the model, by the caller after it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Step = Literal[
    "decode",
    "cut_out",
    "letterbox",
    "fill_background",
    "scale",
    "normalise",
    "channels_first",
    "network",
    "activation",
    "thresholds",
]

STEP_MEANINGS: dict[Step, str] = {
    "decode": "the photo's bytes become uint8 RGB levels, upright (EXIF orientation applied)",
    "cut_out": "a person is cut out, as `person` and `preprocessing.margin_rel` say",
    "letterbox": "resized into `preprocessing.height_px` x `width_px`, borders of `fill_rgb`",
    "fill_background": "what is outside of the person's outline becomes `preprocessing.fill_rgb`",
    "scale": "levels are multiplied by `preprocessing.scale`",
    "normalise": "minus `preprocessing.mean_rgb`, divided by `preprocessing.std_rgb`",
    "channels_first": "axes (batch, height, width, channels) become those of `preprocessing.layout`",
    "network": "the trained network: normalised pixels become logits",
    "activation": "`activation` makes probabilities of the logits",
    "thresholds": "a label is chosen at or above its probability in `thresholds`",
}

# Of preprocessing version 2. Whole numbers wherever a rounding decides, so that every language gets the same.
STEP_RULES: dict[Step, str] = {
    "decode": "uint8 RGB, upright (EXIF orientation applied), transparent parts on white. Decoders of"
    " JPEG may differ by a level or two.",
    "cut_out": "Units are 1/256 pixel; (0, 0) is the top left corner of the top left pixel, so the"
    " centre of the pixel in column c and row r is (256 c + 128, 256 r + 128). An outline's points are given"
    " as fractions of the upright photo's width and height; in units they are X = floor(x * width * 256 +"
    " 0.5), Y = floor(y * height * 256 + 0.5), in double precision, limited to +-2^28. Outlines of fewer than"
    " three points are left out; without any, the outline is the corners of the person's box, given in pixels:"
    " X = floor(x * 256 + 0.5). Over the points of all outlines, L, R are the smallest and largest X and T, B"
    " those of Y; M = floor(margin_rel * max(R - L, B - T) + 0.5). The cut-out is the photo's columns x0 to x1"
    " - 1 and rows y0 to y1 - 1: x0 = floor((L - M) / 256), within 0 and width - 1; x1 = ceil((R + M) / 256),"
    " within x0 + 1 and width; y0 and y1 likewise. The mask is 255 where the pixel's centre lies inside an"
    " outline (even-odd rule) or exactly on an edge or corner of it, else 0; with several outlines, where it"
    " lies in any of them. Edges run from each point to the next, and from the last to the first.",
    "letterbox": "A cut-out of w x h pixels (width x height) becomes one of iw x ih: if height_px * w <="
    " width_px * h, ih = height_px and iw = max(1, floor((2 * w * height_px + h) / (2 * h))); else iw ="
    " width_px and ih = max(1, floor((2 * h * width_px + w) / (2 * w))). Picture and mask are resampled alike,"
    " each rounded once, at the end, to the nearest level, halves upwards. Where iw <= w and ih <= h: the mean"
    " of the area that an output pixel covers, i * w / iw to (i + 1) * w / iw along a row, a source pixel that"
    " is covered in part counting by its covered share (OpenCV's INTER_AREA; Pillow's BOX is another). Else:"
    " linear interpolation between centres, at (i + 0.5) * w / iw - 0.5, limited to 0 and w - 1 (INTER_LINEAR"
    " without antialiasing). Along columns likewise. Where a picture shrinks, another library may differ by"
    " one level. The result lies at left = floor((width_px - iw) / 2), top = floor((height_px - ih) / 2), so"
    " an odd pixel of border is at the right or the bottom; the border is fill_rgb.",
    "fill_background": "Each channel is floor((level * mask + fill_rgb * (255 - mask)) / 255 + 0.5), with the"
    " mask as resampled by the letterbox; where the letterbox is inside the model, with the mask of the"
    " cut-out.",
    "scale": "level / 255, float32.",
    "normalise": "(value - mean_rgb) / std_rgb for each channel, float32.",
    "channels_first": "Axes (batch, channel, row, column), channels red, green, blue, rows from the top.",
    "network": "The model file.",
    "activation": "1 / (1 + exp(-logit)).",
    "thresholds": "A label is chosen where its probability >= its threshold.",
}


class StepsMeta(BaseModel):
    """Every step once, in the order they are done in; the numbers that a step needs stand where it says."""

    model_config = ConfigDict(frozen=True, extra="allow")

    before: tuple[Step, ...] = Field(
        description="what the caller does before the model is asked. The steps: "
        + "; ".join(f"{name}: {meaning}" for name, meaning in STEP_MEANINGS.items())
    )
    inside: tuple[Step, ...] = Field(description="what the model does itself; the caller must not do it as well")
    after: tuple[Step, ...] = Field(description="what the caller does with the model's outputs")
    rules: dict[Step, str] | None = Field(
        default=None,
        description="each step to the pixel, where `preprocessing.version` is 2; packages of version 1 have none, and"
        " leave open which pixels along an outline are the person's. "
        + " ".join(f"{name}: {rule}" for name, rule in STEP_RULES.items()),
    )


def steps_of(*, is_end_to_end: bool, is_background_kept: bool, version: int = 1) -> StepsMeta:
    """The steps of a model.

    Args:
        is_end_to_end: it takes uint8 cut-outs of any size and answers probabilities.
        is_background_kept: the photo's own background stays around the person.
        version: of the preprocessing; from 2 on, the rules of each step are given.
    """
    steps = _steps_of(is_end_to_end=is_end_to_end, is_background_kept=is_background_kept)
    if version == 1:
        return steps
    named = (*steps.before, *steps.inside, *steps.after)
    return steps.model_copy(update={"rules": {step: rule for step, rule in STEP_RULES.items() if step in named}})


def _steps_of(*, is_end_to_end: bool, is_background_kept: bool) -> StepsMeta:
    fill: tuple[Step, ...] = () if is_background_kept else ("fill_background",)
    if is_end_to_end:
        return StepsMeta(
            before=("decode", "cut_out", *fill),
            inside=("letterbox", "scale", "normalise", "channels_first", "network", "activation"),
            after=("thresholds",),
        )
    return StepsMeta(
        before=("decode", "cut_out", "letterbox", *fill, "scale", "normalise", "channels_first"),
        inside=("network",),
        after=("activation", "thresholds"),
    )


def steps_fault(declared: StepsMeta, *, is_end_to_end: bool, is_background_kept: bool, output: str) -> str | None:
    """What contradicts the model's input, its output, or the preprocessing; None where nothing does.

    Args:
        declared: the steps that meta.json names.
        is_end_to_end: the input is uint8, as only a model with its preprocessing inside takes it.
        is_background_kept: see `steps_of`.
        output: name of the model's output: `logits`, `probabilities`, or one that says nothing. Triton's number
            (`logits__0`) does not count.
    """
    due = steps_of(is_end_to_end=is_end_to_end, is_background_kept=is_background_kept)
    for part in ("before", "inside", "after"):
        found, expected = getattr(declared, part), getattr(due, part)
        if found != expected:
            kind = "UINT8" if is_end_to_end else "of floats"
            kept = "kept" if is_background_kept else "filled"
            return f"steps.{part} {_difference(found, expected)} (the input is {kind}, the background is {kept})"
    is_probability = {"logits": False, "probabilities": True}.get(output.partition("__")[0])
    if is_probability is not None and is_probability is not ("activation" in declared.inside):
        place = "inside the model" if "activation" in declared.inside else "left to the caller"
        return f"output '{output}' contradicts the steps: the activation is {place}"
    return None


def _difference(found: tuple[Step, ...], expected: tuple[Step, ...]) -> str:
    """What is missing or too much; the order, where it is only that."""
    lacks = tuple(step for step in expected if step not in found)
    extra = tuple(step for step in found if step not in expected)
    faults = [f"{verb} {', '.join(steps)}" for verb, steps in (("lacks", lacks), ("has also", extra)) if steps]
    return " and ".join(faults) or f"is in another order than {', '.join(expected)}"
