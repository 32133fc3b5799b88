"""Multi-label metrics, thresholds, calibration error and intervals, on NumPy alone."""
