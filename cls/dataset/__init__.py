"""Samples, splits that cannot leak, the cut-out cache, and what a training loop reads."""
