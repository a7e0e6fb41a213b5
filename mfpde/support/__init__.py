"""What any program of this kind needs, and what knows nothing of the equation."""
