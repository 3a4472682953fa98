"""RDMs of the channels around every place of a brain, compared with models: the searchlight.

`neighbourhoods` says which channels belong to each centre, on `meshes` for surfaces. `searching` holds `searchlight`:
`measurements` brings the data into the order of the channels, `kernels` computes the RDMs of many spheres at once, with
the `local_noise` of each, and `scoring` compares them with model RDMs. `maps` is the result, `writing` its files, and
`group_maps` tests maps of several subjects.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
