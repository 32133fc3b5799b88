"""The pictures database: tables, engine, queries, migrations."""
