"""Which failures of a database can heal by trying the same transaction again."""

from __future__ import annotations

import logging

import psycopg
from sqlalchemy.exc import DBAPIError, IntegrityError

ATTEMPTS = 10
TIMEOUT_S = 60.0
WAIT_INITIAL_S = 0.2
_CONFLICTS = 2
# Deadlock, serialization failure, a server shutting down or starting up: the same transaction can succeed later.
_PASSING_STATES = {"40P01", "40001", "57P01", "57P02", "57P03"}

_log = logging.getLogger("cls.pictures")


class Patience:
    """Judges whether the same transaction may succeed at the next try."""

    def __init__(self) -> None:
        self._n_conflicts = 0

    def __call__(self, error: Exception) -> bool:
        """Whether to try again after this failure."""
        if isinstance(error, IntegrityError):
            # Another tool added the same path since we looked, where a site has made paths unique: seen at the next
            # look. What is in the way for longer is no coincidence.
            self._n_conflicts += 1
            return self._n_conflicts <= _CONFLICTS
        if not isinstance(error, DBAPIError):
            return False
        state = getattr(error.orig, "sqlstate", None)
        # psycopg gives no state where the server could not be reached: it worked at `open`, so it may be restarting.
        is_unreachable = isinstance(error.orig, psycopg.OperationalError) and state is None
        can_heal = error.connection_invalidated or is_unreachable or state in _PASSING_STATES
        if can_heal:
            _log.info("the pictures database did not answer (%s): trying again", str(error.orig).splitlines()[0])
        return can_heal
