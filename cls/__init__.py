"""CLS: from an annotation service to a served, versioned classifier of people's attributes in photos."""

__version__ = "0.1.0"
