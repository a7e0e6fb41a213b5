"""mfpde: a grid-based solver for the mean-field PDE of wide two-layer networks.

>>> import mfpde as mf
>>> solution = mf.solve(mf.problems.three_gaussians(), shape=(48, 48), t_end=0.5, progress=False)
>>> bool(solution.energy[-1] < 0.6 * solution.energy[0])
True

Names are imported when they are first used, so that importing the package costs numpy only.
"""

import lazy_loader

__version__ = "0.1.0"

# names and homes are in the stub beside this file, once
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
