"""Predictions to the challenge's files, checked before they are written."""
