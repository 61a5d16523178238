"""Page: what a cache and the runs from it hold, as one HTML file that opens from disk; samples, never all data."""
