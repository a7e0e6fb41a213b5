"""Particles against the mean field: gaps, rates in n, what stays as n grows, and a verdict with its false alarm.

`records` reads particles, `mean_field` has what they are compared with, `observer` measures the gaps of both and
`replicas` gathers them; `statistics` judges the gaps of each observable, `sensitivity` runs the mean field a little
changed, `diagnosis` says what all gaps look like together, `plan` what would decide, `report` shows the findings, and
`procedure` has `compare`, which knows all of them. Importing costs numpy only.
"""

from __future__ import annotations

from mfpde.verification.comparison.diagnosis import Fit, VisibleError
from mfpde.verification.comparison.findings import Finding, Verdict
from mfpde.verification.comparison.mean_field import ExactLaw, Quantity
from mfpde.verification.comparison.plan import Plan
from mfpde.verification.comparison.procedure import compare
from mfpde.verification.comparison.records import ParticleRecord, load_particles
from mfpde.verification.comparison.report import Comparison, Limit

__all__ = [
    "Comparison",
    "ExactLaw",
    "Finding",
    "Fit",
    "Limit",
    "ParticleRecord",
    "Plan",
    "Quantity",
    "Verdict",
    "VisibleError",
    "compare",
    "load_particles",
]
