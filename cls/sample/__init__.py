"""The sample photo set: drawn people with known truth, for newcomers, tests and benchmarks.

`make.make_sample` writes a whole set; `photo.render_photo` draws one photo of it. Everything is a pure function of
(seed, index), so a set is the same whoever draws it, in whatever order.
"""

from pathlib import Path

# The segmentation model that was trained on the set.
PERSON_MODEL = Path(__file__).parent / "person_model" / "best.pt"
