"""An extraction as tasks of a job array: dealing, planning, status, stopping."""
