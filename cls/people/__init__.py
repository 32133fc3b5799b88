"""Pure geometry on arrays: people, polygons, masks, cut-outs and the one preprocessing."""
