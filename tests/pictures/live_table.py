"""The pictures table as it stands at users' sites, and the URL psycopg itself takes."""

from __future__ import annotations

LIVE_TABLE = """
CREATE TABLE pictures (
    id SERIAL PRIMARY KEY,
    path VARCHAR(255) NOT NULL,
    model_version VARCHAR(50) NOT NULL,
    status VARCHAR(50) NOT NULL,
    segments jsonb DEFAULT NULL
)
"""


def plain_url(url: str) -> str:
    """The URL without the driver that SQLAlchemy is told of."""
    return url.replace("+psycopg2", "")
