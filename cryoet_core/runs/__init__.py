"""A run: its folder, seed, device, processes, checkpoints, inputs and predictions."""
