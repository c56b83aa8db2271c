"""From a configuration and its data to a run folder: the training loop, the optimiser, resuming."""
