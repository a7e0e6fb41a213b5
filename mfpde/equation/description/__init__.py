"""Problems as tables of numbers and text, see `mfpde.equation.description.whole`."""
