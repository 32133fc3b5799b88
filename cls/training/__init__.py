"""From samples to a trained network: configuration, network, loss, fit, metrics, thresholds, report."""
