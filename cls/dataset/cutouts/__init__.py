"""Cut-outs of people, cached on disk."""
