"""Several runs' predictions to one set of predictions: weights, corrections, cross-fitting."""
