"""Names for files of references: how one is saved, and those that come with the package."""

from mfpde.verification.references.file import StoredReference, read_reference, save_reference
from mfpde.verification.references.pack import Checked, check, load_reference, rebuild
from mfpde.verification.references.recipes import Part, Recipe, recipe, reference_names

__all__ = [
    "Checked",
    "Part",
    "Recipe",
    "StoredReference",
    "check",
    "load_reference",
    "read_reference",
    "rebuild",
    "recipe",
    "reference_names",
    "save_reference",
]
