"""Predictions of a trained model, with or without test-time augmentation."""
