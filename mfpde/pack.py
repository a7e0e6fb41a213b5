"""Names for files of references: how one is saved, and those that come with the package."""

from mfpde.verification.references.file import save_reference
from mfpde.verification.references.pack import load_reference
from mfpde.verification.references.recipes import recipe, reference_names

__all__ = ["load_reference", "recipe", "reference_names", "save_reference"]
