"""Maps of fMRI that are already estimated, one per condition or trial: NIfTI, GIFTI, CIFTI and BDPy.

Masks, atlases and the pairing of maps with tables are here too.
"""
