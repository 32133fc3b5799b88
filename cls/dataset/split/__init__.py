"""The train/validation split, and the near duplicates that must not be on both sides of it."""
