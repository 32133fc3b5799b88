"""Inference servers of the model storage: Triton, or the embedded one over HTTP and gRPC."""
