"""A trained model to predictions, with or without test-time augmentation."""
