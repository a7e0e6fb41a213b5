"""What the widths of a density's layers are made of, compiled: the terms that `mfpde.mesh.layers` adds up."""

from __future__ import annotations

from mfpde.mesh.compiled.options import uncounted_kernel

__all__ = ["terms_of"]


@uncounted_kernel
def terms_of(mu, block, pairs, apart, terms):  # type: ignore[no-untyped-def]
    """``(mu_+ - mu_-)^2 / (mu_+ + mu_-)`` of pairs of cells, 0 where there is nothing; the least value of all cells.

    Parameters
    ----------
    mu : (cells,) array
    block, pairs, apart : int
        Of each `block` of cells the first `pairs` ones are held against those that are so far `apart`.
    terms : (cells / block * pairs or more,) array
        Filled.
    """
    least, first = mu[0], 0
    for k in range(mu.size):
        least = mu[k] if mu[k] < least else least
    for start in range(0, mu.size, block):
        for k in range(pairs):
            one, other = mu[start + k], mu[start + k + apart]
            both, change = one + other, other - one
            terms[first + k] = change * change / both if both > 0.0 else 0.0
        first += pairs
    return least
