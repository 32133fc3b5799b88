"""Who a person is and what they wear, drawn once for a person, and the labels that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cls.sample.canvas import Colour
from cls.sample.figure import palette
from cls.sample.figure.pose import Build

GROUPS: dict[str, list[str]] = {
    "hair_color": ["black hair", "brown hair", "blonde hair", "red hair", "gray hair"],
    "top_color": ["red top", "blue top", "green top", "yellow top", "white top", "black top"],
    "hat": ["cap", "beanie", "wide-brim hat"],
    "accessories": ["glasses", "sunglasses", "scarf", "bag"],
}
MULTI_LABEL_GROUPS = frozenset({"accessories"})

LONG_HAIR = frozenset({"long", "wavy", "bob", "ponytail"})
"""Styles that still show under a hat."""


@dataclass(frozen=True)
class Garment:
    """One piece of clothing: its cut, colours and pattern."""

    cut: str
    colour: Colour
    second: Colour = (240.0, 240.0, 240.0)
    pattern: str = ""


@dataclass(frozen=True)
class Person:
    """Everything that stays the same about a person from photo to photo."""

    gender: str
    build: Build
    height: float
    skin: Colour
    eyes: Colour
    hair_style: str
    hair: Colour
    hair_label: str
    beard: str
    top: Garment
    top_label: str
    sleeves: str
    neckline: str
    is_tucked: bool
    bottom: Garment
    shoes: Garment
    socks: Colour
    hat: str
    hat_colour: Colour
    glasses: str
    scarf: Garment | None
    bag: Garment | None
    bag_side: int
    face: tuple[float, float, float, float]
    texture_px: tuple[float, float]

    @property
    def is_hair_visible(self) -> bool:
        """Whether enough hair shows to name its colour."""
        return self.hair_style != "bald" and (not self.hat or self.hair_style in LONG_HAIR)


def labels(person: Person) -> dict[str, list[str]]:
    """The true labels of a person, group by group; an empty list means none of the group's labels."""
    accessories = [person.glasses] if person.glasses else []
    accessories += ["scarf"] if person.scarf else []
    accessories += ["bag"] if person.bag else []
    return {
        "hair_color": [person.hair_label] if person.hair_label and person.is_hair_visible else [],
        "top_color": [person.top_label] if person.top_label else [],
        "hat": [person.hat] if person.hat else [],
        "accessories": accessories,
    }


def _build(rng: np.random.Generator, gender: str) -> Build:
    bulk = float(rng.normal(1.0, 0.07))
    if gender == "girl":
        shoulder, chest, waist, hip, limb = 0.74, 0.6, 0.46, 0.64, 0.84
    else:
        shoulder, chest, waist, hip, limb = 0.88, 0.74, 0.62, 0.6, 1.02
    bulk = min(max(bulk, 0.88), 1.2)
    return Build(
        shoulder=shoulder * (0.6 + 0.4 * bulk),
        chest=chest * bulk,
        waist=waist * bulk**1.6,
        hip=hip * bulk,
        limb=limb * bulk,
        leg_scale=float(rng.uniform(0.96, 1.08)),
        head=float(rng.uniform(1.06, 1.15)),
    )


def _top(rng: np.random.Generator, gender: str) -> tuple[Garment, str]:
    label = str(rng.choice([*GROUPS["top_color"], ""], p=[0.14] * 6 + [0.16]))
    cuts = ["tee", "shirt", "sweater", "jacket", "hoodie"] + (
        ["blouse", "tank", "coat"] if gender == "girl" else ["polo", "coat"]
    )
    cut = str(rng.choice(cuts))
    colour = palette.top_colour(rng, label)
    tone = palette.scaled(colour, 0.72) if label not in {"black top"} else (62.0, 62.0, 68.0)
    pattern, second = "", tone
    roll = rng.random()
    if label == "" and roll < 0.3:
        # Two strong colours at even shares: no single name fits.
        first, other = rng.choice(GROUPS["top_color"], 2, replace=False)
        colour, second = palette.top_colour(rng, str(first)), palette.top_colour(rng, str(other))
        pattern = str(rng.choice(["bold stripes", "patches"]))
    elif cut in {"sweater"}:
        pattern = "knit" if roll < 0.7 else "bold stripes"
        second = palette.mixed(colour, tone, 0.6)
    elif cut in {"shirt", "blouse", "tee", "polo"} and roll < 0.5:
        pattern = str(rng.choice(["thin stripes", "pinstripes", "checks", "dots", "plaid"]))
        if pattern in {"thin stripes", "dots"} and label not in {"white top", ""} and rng.random() < 0.6:
            second = (238.0, 236.0, 230.0)
    if label == "white top" and pattern:
        second = palette.mixed(colour, (150, 150, 160), 0.35)
    return Garment(cut, colour, second, pattern), label


def _bottom(rng: np.random.Generator, gender: str, top: Garment) -> Garment:
    cuts = ["skinny", "straight", "wide", "shorts"]
    if gender == "girl" and rng.random() < 0.5:
        cut = str(rng.choice(["mini", "midi", "maxi", "dress"], p=[0.25, 0.35, 0.15, 0.25]))
        if cut == "dress" and top.cut not in {"jacket", "hoodie", "coat", "sweater"}:
            return Garment("dress", top.colour, top.second, top.pattern)
        cut = "midi" if cut == "dress" else cut
        pattern = str(rng.choice(["", "", "dots", "checks", "plaid", "pinstripes"]))
        colour = palette.pick(rng, palette.SKIRTS)
        return Garment(cut, colour, palette.scaled(colour, 0.7), pattern)
    colour = palette.pick(rng, palette.TROUSERS)
    cut = str(rng.choice(cuts, p=[0.3, 0.36, 0.18, 0.16]))
    is_denim = colour[2] > colour[0] * 1.25
    return Garment(cut, colour, palette.mixed(colour, (210, 218, 228), 0.2), "denim" if is_denim else "")


def draw_person(rng: np.random.Generator) -> Person:
    """A person at random; labels come out in useful shares, some people have none of a group's labels."""
    gender = "girl" if rng.random() < 0.5 else "man"
    skin_index = int(rng.integers(len(palette.SKINS)))
    hair_label = str(rng.choice([*GROUPS["hair_color"], ""], p=[0.19, 0.19, 0.19, 0.17, 0.17, 0.09]))
    if gender == "girl":
        style = str(rng.choice(["long", "wavy", "bob", "ponytail", "bun", "pixie", "curly", "long"]))
    else:
        style = str(
            rng.choice(
                ["short", "side part", "buzz", "curly", "quiff", "bob", "bald"],
                p=[0.26, 0.22, 0.12, 0.13, 0.15, 0.05, 0.07],
            )
        )
    if style == "buzz" and hair_label == "blonde hair":
        style = "short"  # a blonde stubble is the colour of the skin under it
    top, top_label = _top(rng, gender)
    sleeves = {"tank": "none", "tee": "short", "polo": "short"}.get(top.cut, "long")
    if top.cut in {"shirt", "blouse"} and rng.random() < 0.4:
        sleeves = "half"
    neckline = {"shirt": "collar", "polo": "collar", "jacket": "zip", "hoodie": "hood", "coat": "lapel"}.get(
        top.cut,
        str(rng.choice(["crew", "vee", "scoop"])) if top.cut != "sweater" else str(rng.choice(["crew", "turtle"])),
    )
    bottom = _bottom(rng, gender, top)
    hat = str(rng.choice(["", "cap", "beanie", "wide-brim hat"], p=[0.64, 0.13, 0.12, 0.11]))
    shoe_cut = str(rng.choice(["trainers", "boots", "flats"] if gender == "girl" else ["trainers", "boots"]))
    bag_cut = str(
        rng.choice(
            ["tote", "crossbody", "backpack", "handbag"] if gender == "girl" else ["crossbody", "backpack", "tote"]
        )
    )
    beard = str(rng.choice(["", "stubble", "beard", "moustache"], p=[0.55, 0.2, 0.18, 0.07]))
    if gender == "girl" or (hat and style not in LONG_HAIR):
        beard = ""  # a beard would tell the colour of hair that the hat hides
    scarf_colour = palette.pick(rng, palette.KNITWEAR)
    return Person(
        gender=gender,
        build=_build(rng, gender),
        height=float(rng.normal(0.955 if gender == "girl" else 1.03, 0.025)),
        skin=palette.varied(rng, palette.SKINS[skin_index], 0.03),
        eyes=palette.EYES[int(rng.integers(2 if skin_index > 4 else len(palette.EYES)))],
        hair_style=style,
        hair=palette.hair_colour(rng, hair_label),
        hair_label=hair_label if style != "bald" else "",
        beard=beard,
        top=top,
        top_label=top_label,
        sleeves=sleeves,
        neckline=neckline,
        is_tucked=bool(rng.random() < 0.45 and top.cut in {"tee", "shirt", "blouse", "tank", "polo"}),
        bottom=bottom,
        shoes=Garment(shoe_cut, palette.pick(rng, palette.SHOES)),
        socks=palette.pick(rng, palette.SHOES),
        hat=hat,
        hat_colour=palette.pick(
            rng,
            palette.KNITWEAR
            if hat != "wide-brim hat"
            else [(206, 178, 130), (120, 84, 56), (54, 50, 52), (186, 60, 60)],
        ),
        glasses=str(rng.choice(["", "glasses", "sunglasses"], p=[0.64, 0.22, 0.14])),
        scarf=Garment(
            "scarf",
            scarf_colour,
            palette.scaled(scarf_colour, 0.6),
            str(rng.choice(["", "plaid", "bold stripes", "knit"])),
        )
        if rng.random() < 0.2
        else None,
        bag=Garment(bag_cut, palette.pick(rng, palette.LEATHER)) if rng.random() < 0.34 else None,
        bag_side=int(rng.choice([-1, 1])),
        face=(float(rng.normal(0, 1)), float(rng.normal(0, 1)), float(rng.normal(0, 1)), float(rng.normal(0, 1))),
        texture_px=(float(rng.uniform(0, 256)), float(rng.uniform(0, 256))),
    )
