"""Quadrature nodes that move along characteristics: the second discretisation."""
