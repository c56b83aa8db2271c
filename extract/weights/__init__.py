"""Published weights: found, fetched, read without running what they say, and loaded strictly."""
