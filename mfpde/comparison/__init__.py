"""Particles against the mean field: gaps, rates in n, what stays as n grows, and a verdict with its false alarm.

`records` and `reference` know nothing of each other; `statistics` judges the gaps of each observable, `sensitivity`
runs the mean field a little changed, `diagnosis` says what all gaps look like together, `plan` what would decide,
`report` shows the findings, and `procedure` has `compare`, which knows all of them. Importing costs numpy only.
"""

from __future__ import annotations

from mfpde.comparison.diagnosis import Fit, VisibleError
from mfpde.comparison.plan import Plan
from mfpde.comparison.procedure import compare
from mfpde.comparison.records import ParticleRecord, load_particles
from mfpde.comparison.reference import ExactLaw, Quantity
from mfpde.comparison.report import Comparison, Limit
from mfpde.comparison.statistics import Finding, Verdict

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
