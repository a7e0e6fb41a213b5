"""A run as text and as a file: tables, data, configuration, loading, resuming, pictures."""
