"""Conversions of a trained network, the proof that they are faithful, and the package."""
