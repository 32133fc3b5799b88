"""Pure geometry on arrays: people, polygons, masks, cut-outs and the one preprocessing."""

# Which of a photo's people `choose_people` takes.
LARGEST, SINGLE, ALL = "largest", "single", "all"
CHOICES = (LARGEST, SINGLE, ALL)
