"""An index on pictures.path: which of many paths have a row is asked at every step."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEX = "cls_pictures_path"


def upgrade() -> None:
    """Adds the index unless the table has one that starts with `path`, whatever its name.

    On PostgreSQL it is built beside the running work (CONCURRENTLY). The build waits for transactions that are open on
    the table; it gives up after a few seconds of waiting rather than hold up the user, and is tried again next time.
    """
    if op.get_context().dialect.name == "sqlite":
        if not _is_path_indexed(op.get_bind()):
            op.create_index(INDEX, "pictures", ["path"], if_not_exists=True)
        return
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '3s'")
        op.execute("SET statement_timeout = '120s'")
        try:
            _drop_unfinished_index()
            if not _is_path_indexed(op.get_bind()):
                op.create_index(INDEX, "pictures", ["path"], if_not_exists=True, postgresql_concurrently=True)
        finally:
            op.execute("RESET lock_timeout")
            op.execute("RESET statement_timeout")


def _is_path_indexed(connection: sa.Connection) -> bool:
    inspector = sa.inspect(connection)
    columns = [index["column_names"] for index in inspector.get_indexes("pictures")]
    columns += [list(constraint["column_names"]) for constraint in inspector.get_unique_constraints("pictures")]
    return any(names[:1] == ["path"] for names in columns)


def _drop_unfinished_index() -> None:
    """Removes what a concurrent build that was cut off leaves behind: an index that is kept up and never used."""
    unfinished = op.get_bind().scalar(
        sa.text("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid"), {"name": INDEX}
    )
    if unfinished:
        op.drop_index(INDEX, "pictures", if_exists=True, postgresql_concurrently=True)


def downgrade() -> None:
    """Removes the index if it is ours."""
    if op.get_context().dialect.name == "sqlite":
        op.drop_index(INDEX, "pictures", if_exists=True)
        return
    with op.get_context().autocommit_block():
        op.drop_index(INDEX, "pictures", if_exists=True, postgresql_concurrently=True)
