"""Numbers with error bars, their files, and the pack that comes with the package."""
