"""Validation: studies that compare computed numbers with published, exact or independently computed ones.

``python -m validation`` runs them; each is a module with a function ``run``, see README.md.
"""
