"""Whether matrices and spectra are of one sign, up to round-off."""

from __future__ import annotations

import numpy as np

from mfpde.support.arrays import Array

__all__ = ["MOST_CELLS", "NEGATIVE", "ROUNDING", "positive_matrix", "sign_of_spectrum"]


NEGATIVE = 1e-10
"""Size of a negative eigenvalue, relative to the largest entry of the second variation, that counts."""
ROUNDING = 1e-14
"""Round-off of an entry of the second variation, relative to the largest before the mean is taken out."""
MOST_CELLS = 2048
"""Cells of a matrix that is factorised: a tenth of a second."""


def positive_matrix(matrix: Array, free_mass: bool = True) -> bool:
    """Whether a symmetric matrix is positive, but for round-off, along vectors that sum to 0 (or along all)."""
    n = len(matrix)
    rounding = ROUNDING * n * float(np.max(np.abs(matrix)))
    matrix = 0.5 * (matrix + matrix.T)
    if not free_mass:
        means = matrix.mean(axis=0)
        matrix += means.mean() - means[:, None] - means[None, :]
    matrix.flat[:: n + 1] += NEGATIVE * float(np.max(np.abs(matrix))) + rounding + 1e-300
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def sign_of_spectrum(samples: Array, level: bool) -> int:
    """The sign of all Fourier coefficients of an even function; that of its mean counts only if `level`."""
    import scipy.fft

    spectrum = scipy.fft.rfftn(samples).real.ravel()
    slack = NEGATIVE * float(np.abs(samples).max()) + ROUNDING * float(np.abs(spectrum).max())
    if not level:
        spectrum = spectrum[1:]
    return next((sign for sign in (1, -1) if np.all(sign * spectrum >= -slack)), 0)
