"""Methods in time."""
