"""Public pedestrian-attribute sets (PA-100K, PETA, RAPv2) as groups of the bottle, and their table of results."""

LAYOUTS = ("pa100k", "peta", "rapv2")
