"""Evaluation of a trained network: logits, calibration, background sensitivity, the leak tax."""
