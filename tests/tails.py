"""Linear neurons whose mass descends from six to sixteen spreads out in a tail of the start."""

TAILS = [
    {"target": 4.0, "alpha": 5.0, "mean": -2.0, "variance": 0.2},
    {"target": 4.0, "alpha": 4.0, "mean": -1.0, "variance": 0.25},
    {"alpha": 30.0, "mean": -3.0, "variance": 0.01},
    {"target": 20.0},
]
