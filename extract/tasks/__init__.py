"""An extraction as tasks of a job array: sharing the work out, estimating it, and its status."""
