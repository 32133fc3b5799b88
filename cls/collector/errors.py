"""Errors of single pictures: others of the same source may well be had."""

from __future__ import annotations

from cls.errors import CollectorError


class PictureMissingError(CollectorError):
    """A source cannot give one picture: it is gone, refused, or cannot be read."""


class PictureBusyError(PictureMissingError):
    """A source answered with server errors for one picture, also when asked again."""
