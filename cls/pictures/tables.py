"""The table of the pictures database, as it stands at users' sites (spec section 4)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PATH_MAX_LENGTH = 255
MODEL_VERSION_MAX_LENGTH = 50
STATUS_MAX_LENGTH = 50


class Base(DeclarativeBase):
    """Base of the table classes."""


class PictureRow(Base):
    """One look of a segmentation model at a photo; older tools may have written several rows for one path."""

    __tablename__ = "pictures"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(String(PATH_MAX_LENGTH))
    model_version: Mapped[str] = mapped_column(String(MODEL_VERSION_MAX_LENGTH))
    status: Mapped[str] = mapped_column(String(STATUS_MAX_LENGTH))
    segments: Mapped[Any | None] = mapped_column(
        JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    )


COLUMNS = tuple(PictureRow.__table__.columns.keys())
