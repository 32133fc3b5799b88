"""The mask gallery: bad masks are found and marked."""
