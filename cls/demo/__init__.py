"""The demonstration: the guide's own scripts, run from end to end against real services on loopback."""
