"""Removing somebody's pictures from a bottle, with all that was made of them."""
