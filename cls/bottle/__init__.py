"""The bottle: the portable data folder of a project."""
