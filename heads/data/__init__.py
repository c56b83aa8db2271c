"""Features as heads read them: feature sets, splits, chunks in memory, batches, augmentation."""
