"""Loads a labelled group of photos into the bottle: listing, download, ledger."""
