"""Colours (RGB 0..255): the named ones that labels use, each with natural variation, and skins, eyes, denim."""

from __future__ import annotations

import colorsys

import numpy as np

from cls.sample.canvas import Colour

HAIR: dict[str, tuple[Colour, Colour]] = {
    # label: the two ends of its range
    "black hair": ((22, 20, 22), (40, 35, 36)),
    "brown hair": ((84, 54, 34), (120, 80, 50)),
    "blonde hair": ((214, 178, 106), (240, 212, 150)),
    "red hair": ((158, 58, 20), (196, 88, 36)),
    "gray hair": ((140, 140, 144), (196, 196, 200)),
}
DYED_HAIR: list[Colour] = [(212, 90, 150), (60, 110, 190), (70, 160, 120), (140, 80, 180)]

# label: ranges of hue (degrees), saturation and value
_TOPS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red top": ((-8, 4), (0.78, 0.92), (0.62, 0.86)),
    "blue top": ((208, 230), (0.6, 0.88), (0.5, 0.86)),
    "green top": ((105, 155), (0.48, 0.8), (0.4, 0.7)),
    "yellow top": ((45, 54), (0.68, 0.9), (0.86, 0.97)),
    "white top": ((30, 60), (0.0, 0.05), (0.93, 0.99)),
    "black top": ((200, 240), (0.0, 0.15), (0.1, 0.17)),
}
_OTHER_TOPS: list[tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = [
    ((272, 290), (0.4, 0.65), (0.45, 0.7)), ((325, 340), (0.35, 0.55), (0.85, 0.95)),
    ((296, 310), (0.5, 0.7), (0.5, 0.66)), ((0, 360), (0.0, 0.04), (0.42, 0.54)),
    ((26, 30), (0.78, 0.88), (0.92, 0.98)),
]  # fmt: skip
SKINS: list[Colour] = [
    (246, 211, 188), (238, 196, 168), (228, 182, 148), (212, 163, 126), (190, 138, 100), (158, 108, 76), (122, 80, 56),
    (92, 60, 44),
]  # fmt: skip
EYES: list[Colour] = [(70, 46, 30), (60, 40, 26), (96, 120, 140), (84, 110, 80), (110, 90, 60)]
TROUSERS: list[Colour] = [
    (54, 72, 108), (74, 98, 138), (38, 46, 66), (40, 40, 44), (92, 88, 84), (168, 146, 112), (120, 104, 78),
    (84, 92, 70), (200, 190, 172), (100, 56, 52), (30, 32, 38), (112, 134, 164),
]  # fmt: skip
SKIRTS: list[Colour] = [
    (40, 40, 46), (150, 60, 66), (84, 98, 140), (196, 164, 120), (106, 120, 92), (210, 204, 196), (120, 84, 130),
    (204, 130, 120),
]  # fmt: skip
SHOES: list[Colour] = [
    (36, 34, 36), (86, 56, 38), (226, 224, 220), (150, 50, 48), (60, 76, 110), (176, 146, 110), (60, 60, 64),
]  # fmt: skip
LEATHER: list[Colour] = [
    (92, 58, 38), (140, 92, 58), (44, 40, 42), (176, 130, 88), (120, 44, 44), (70, 84, 78), (190, 170, 140),
]  # fmt: skip
KNITWEAR: list[Colour] = [
    (150, 46, 50), (52, 74, 120), (66, 96, 76), (206, 160, 62), (216, 208, 196), (60, 58, 62), (140, 98, 130),
    (196, 112, 70), (120, 124, 130),
]  # fmt: skip


def from_hsv(hue_degrees: float, saturation: float, value: float) -> Colour:
    """RGB 0..255 of a hue in degrees (any sign), saturation and value in 0..1."""
    r, g, b = colorsys.hsv_to_rgb((hue_degrees % 360) / 360, saturation, value)
    return (r * 255, g * 255, b * 255)


def _draw(
    rng: np.random.Generator, spans: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
) -> Colour:
    hue, saturation, value = (float(rng.uniform(*span)) for span in spans)
    return from_hsv(hue, saturation, value)


def top_colour(rng: np.random.Generator, label: str) -> Colour:
    """A colour everybody would call by the label's name; for no label (""), one that none of the names fits."""
    return _draw(rng, _TOPS[label] if label else _OTHER_TOPS[int(rng.integers(len(_OTHER_TOPS)))])


def hair_colour(rng: np.random.Generator, label: str) -> Colour:
    """A natural colour of the label, or a dyed one for no label ("")."""
    if not label:
        return varied(rng, DYED_HAIR[int(rng.integers(len(DYED_HAIR)))], 0.08)
    low, high = HAIR[label]
    return mixed(low, high, float(rng.random()))


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """A colour between two: `share` of the second."""
    return (
        first[0] + (second[0] - first[0]) * share,
        first[1] + (second[1] - first[1]) * share,
        first[2] + (second[2] - first[2]) * share,
    )


def scaled(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1) or lighter, kept within 0..255."""
    return (min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0))


def varied(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """The colour with its brightness and each channel moved a little at random."""
    factors = 1 + rng.uniform(-amount, amount) + rng.uniform(-amount / 3, amount / 3, 3)
    r, g, b = (float(min(max(c * f, 0), 255)) for c, f in zip(colour, factors, strict=True))
    return (r, g, b)


def pick(rng: np.random.Generator, colours: list[Colour]) -> Colour:
    """One of the colours, slightly varied."""
    return varied(rng, colours[int(rng.integers(len(colours)))], 0.06)
