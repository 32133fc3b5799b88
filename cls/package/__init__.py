"""A model package: meta.json and its schema, config.pbtxt, the zip."""
