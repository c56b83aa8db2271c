"""Many runs on features that are loaded once: grids, successive halving, their records."""
