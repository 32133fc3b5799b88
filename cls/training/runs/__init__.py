"""Training runs on disk: their folders, tables and comparisons."""
