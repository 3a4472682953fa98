"""BOLD series, modelled run by run to patterns: plain files, BIDS datasets and fMRIPrep's derivatives."""
