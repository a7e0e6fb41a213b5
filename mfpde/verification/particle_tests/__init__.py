"""What tests of particle codes are made of, see `mfpde.testing`."""
