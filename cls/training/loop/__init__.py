"""The training loop: Lightning module, losses, optimizer, devices, checkpoints and loggers."""
