"""Feature sets and annotations to batches: which steps each segment has, read and gathered. Knows no head."""
