"""docs/reference/meta-json.md lists every key that a package's meta.json may have."""

from __future__ import annotations

from cls.package.meta import ModelMeta
from tests.reference.meta_json import fields_of, objects_of


def test_every_key_of_the_schema_has_a_meaning() -> None:
    without = [
        f"{path}.{one.name}" for path, kind in objects_of(ModelMeta) for one in fields_of(kind) if not one.meaning
    ]
    assert without == []


def test_objects_at_every_depth_are_found() -> None:
    paths = {path for path, _ in objects_of(ModelMeta)}
    assert {"", "steps", "inputs[]", "parity.<key>.labels.<key>", "package.plan", "training"} <= paths
