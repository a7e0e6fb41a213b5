"""Arrays of numbers, as annotations name them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array"]

Array = NDArray[np.float64]
"""Double precision, in C order."""
