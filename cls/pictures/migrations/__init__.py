"""Alembic migrations of the pictures database: additive, safe on a live table, run by `cls.pictures.engine`."""
