"""The model storage service: endpoints, repository on disk, inference engine, files over SSH."""
