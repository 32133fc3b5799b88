"""Who does what on the way from a photo to labels: the caller before the model, the model, the caller after it."""

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

_MEANINGS: dict[Step, str] = {
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


class StepsMeta(BaseModel):
    """Every step once, in the order they are done in; the numbers that a step needs stand where it says."""

    model_config = ConfigDict(frozen=True, extra="allow")

    before: tuple[Step, ...] = Field(
        description="what the caller does before the model is asked. The steps: "
        + "; ".join(f"{name}: {meaning}" for name, meaning in _MEANINGS.items())
    )
    inside: tuple[Step, ...] = Field(description="what the model does itself; the caller must not do it as well")
    after: tuple[Step, ...] = Field(description="what the caller does with the model's outputs")


def steps_of(*, is_end_to_end: bool, is_background_kept: bool) -> StepsMeta:
    """The steps of a model.

    Args:
        is_end_to_end: it takes uint8 cut-outs of any size and answers probabilities.
        is_background_kept: the photo's own background stays around the person.
    """
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


def steps_fault(said: StepsMeta, *, is_end_to_end: bool, is_background_kept: bool, output: str) -> str | None:
    """What contradicts the model's input, its output, or the preprocessing; None where nothing does.

    Args:
        said: the steps that meta.json names.
        is_end_to_end: the input is uint8, as only a model with its preprocessing inside takes it.
        is_background_kept: see `steps_of`.
        output: name of the model's output: `logits`, `probabilities`, or one that says nothing. Triton's number
            (`logits__0`) does not count.
    """
    due = steps_of(is_end_to_end=is_end_to_end, is_background_kept=is_background_kept)
    for part in ("before", "inside", "after"):
        found, expected = getattr(said, part), getattr(due, part)
        if found != expected:
            kind = "UINT8" if is_end_to_end else "of floats"
            kept = "kept" if is_background_kept else "filled"
            return f"steps.{part} {_difference(found, expected)} (the input is {kind}, the background is {kept})"
    is_probability = {"logits": False, "probabilities": True}.get(output.partition("__")[0])
    if is_probability is not None and is_probability is not ("activation" in said.inside):
        place = "inside the model" if "activation" in said.inside else "left to the caller"
        return f"output '{output}' contradicts the steps: the activation is {place}"
    return None


def _difference(found: tuple[Step, ...], expected: tuple[Step, ...]) -> str:
    """What is missing or too much; the order, where it is only that."""
    lacks = tuple(step for step in expected if step not in found)
    extra = tuple(step for step in found if step not in expected)
    faults = [f"{verb} {_listed(steps)}" for verb, steps in (("lacks", lacks), ("has also", extra)) if steps]
    return " and ".join(faults) or f"is in another order than {_listed(expected)}"


def _listed(steps: tuple[Step, ...]) -> str:
    return ", ".join(steps) or "nothing"
