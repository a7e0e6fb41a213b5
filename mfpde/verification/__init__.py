"""Is it right? Laws of a run, references with error bars, particles against the mean field."""
