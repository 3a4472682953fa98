"""Patterns from BOLD series by a first-level model: plain files, BIDS datasets and fMRIPrep's derivatives."""
