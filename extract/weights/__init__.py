"""Published weights: finding and fetching them, reading them without running code, and loading them strictly."""
