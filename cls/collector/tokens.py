"""Logins and tokens of the own collector."""

from __future__ import annotations

import hmac
import secrets
import threading
import time


class Tokens:
    """Gives tokens for logins, and tells whether one is still good.

    Args:
        login: the one login that is accepted; empty: any.
        password: its password; empty: any login and password are accepted.
        ttl_s: seconds a token lives.
    """

    def __init__(self, login: str, password: str, ttl_s: float) -> None:
        self._login = login
        self._password = password
        self._ttl_s = ttl_s
        self._ends_s: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def is_protected(self) -> bool:
        """Whether a password is needed."""
        return bool(self._password)

    def give(self, login: str, password: str) -> str | None:
        """A new token, or None when login or password are wrong."""
        # Compared in bytes and both always, so that the time taken says nothing.
        is_login_right = not self._login or hmac.compare_digest(login.encode(), self._login.encode())
        is_password_right = not self._password or hmac.compare_digest(password.encode(), self._password.encode())
        if not (is_login_right and is_password_right):
            return None
        now_s = time.monotonic()
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._ends_s = {known: end_s for known, end_s in self._ends_s.items() if end_s > now_s}
            self._ends_s[token] = now_s + self._ttl_s
        return token

    def is_good(self, token: str) -> bool:
        """Whether a token was given and has not expired."""
        with self._lock:
            end_s = self._ends_s.get(token)
        return end_s is not None and end_s > time.monotonic()
