"""Public data sets in the layout of their release: NSD, THINGS-fMRI and BOLD5000."""
