"""Predictions and labels to figures, as the challenge computes them, and tables of these. Knows no model."""
