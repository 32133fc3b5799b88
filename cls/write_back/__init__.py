"""Predictions written back to the collector, previewed and withdrawable."""
