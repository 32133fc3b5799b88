"""The parity check: a conversion compared with the trained network."""
