"""The train/validation split, and the near duplicates that must not be in both subsets of it."""
