"""The table `pictures`; one that exists already is adopted as it stands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table where there is none."""
    op.create_table(
        "pictures",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("model_version", sa.String(50), nullable=False),
        sa.Column("status", sa.String(50), nullable=False),
        sa.Column(
            "segments", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=True, server_default=sa.text("NULL")
        ),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Does nothing: the table may be older than this tool, and holds people's work."""
