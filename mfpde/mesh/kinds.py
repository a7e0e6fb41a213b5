"""Names of the parts of a run, for text: tables of TOML files, lines in the attributes of HDF5 files."""

from __future__ import annotations

from collections.abc import Mapping

from mfpde.mesh.controllers import CourantControl, ErrorControl, FixedStep
from mfpde.mesh.methods.exponential import ExponentialSSPRK3
from mfpde.mesh.methods.implicit import ImplicitEuler, ImplicitStrang
from mfpde.mesh.methods.splitting import Lie, Strang
from mfpde.mesh.schemes import Muscl, ScharfetterGummel, Upwind, Weno5
from mfpde.mesh.stopping import Limits
from mfpde.support.registry import Registry

__all__ = ["CONTROLLERS", "LIMITS", "METHODS", "PARTS", "TRANSPORTS"]

TRANSPORTS = Registry(
    "transport scheme",
    {"weno5": Weno5, "muscl": Muscl, "upwind": Upwind, "scharfetter-gummel": ScharfetterGummel},
    key="transport",
)
METHODS = Registry(
    "method",
    {
        "exponential-ssprk3": ExponentialSSPRK3,
        "strang": Strang,
        "lie": Lie,
        "implicit-strang": ImplicitStrang,
        "implicit-euler": ImplicitEuler,
    },
    key="method",
)
CONTROLLERS = Registry(
    "controller", {"error": ErrorControl, "courant": CourantControl, "fixed": FixedStep}, key="controller"
)
LIMITS = Registry("set of limits", {"limits": Limits})
PARTS: Mapping[str, Registry] = {
    "scheme": TRANSPORTS,
    "method": METHODS,
    "controller": CONTROLLERS,
    "limits": LIMITS,
}
"""By the argument of `mfpde.solve`: what a file says of these makes them again."""
