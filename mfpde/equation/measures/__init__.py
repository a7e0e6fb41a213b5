"""Probability measures that a problem starts from, and their quadrature."""
