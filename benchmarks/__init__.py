"""What the house costs and how fast it is, beside others. Not part of the package; run by `make bench`."""
