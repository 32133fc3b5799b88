"""From a trained run to a package: conversions, the proof that they agree, and what is published."""
