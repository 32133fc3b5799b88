"""A request the storage service does not carry out, with the HTTP status that says so."""

from __future__ import annotations

from cls.errors import StorageError


class RefusedError(StorageError):
    """A refused request; nothing was changed.

    Args:
        status: HTTP status of the answer (404 unknown, 409 exists already, 413 too big, 422 cannot be used,
            502 the inference server fails, 507 no space).
        what: what is wrong, in one sentence without a final stop.
        hint: what the user can do next.
    """

    def __init__(self, status: int, what: str, *, hint: str | None = None) -> None:
        self.status = status
        super().__init__(what, hint=hint)
