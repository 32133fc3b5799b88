"""Runtimes behind one Protocol, and predictions with them."""
