"""Names for entropies relative to a Gibbs state: see `mfpde.equation.gibbs`."""

from mfpde.equation.gibbs import entropy, log_gibbs, relative_entropy

__all__ = ["entropy", "log_gibbs", "relative_entropy"]
