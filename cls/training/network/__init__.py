"""The network: architecture, weights, pooling, EMA, and the trial step that it must pass."""
