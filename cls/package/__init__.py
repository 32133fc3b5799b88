"""A model package: meta.json, config.pbtxt and the zip that carries a model to where it is served."""
