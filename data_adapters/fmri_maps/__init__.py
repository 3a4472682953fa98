"""Maps of fMRI that are already estimated, one per condition or trial: NIfTI, GIFTI and CIFTI.

Masks, atlases and the pairing of maps with tables are here too.
"""
