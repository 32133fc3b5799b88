"""The network: architecture, pooling, initial weights, and the smoke test that it must pass."""
