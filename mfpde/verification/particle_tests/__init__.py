"""Tests of particle codes: particles recorded, put beside a reference, judged and reported; `mfpde.testing` asserts."""
