"""A configuration and its data to a run folder: the loop, the optimiser, resuming."""
