"""Named images: their sources, their conversion to tensors, and their categories.

`named_images` defines `Stimuli`, `transforms` the steps from pixels to the input of a network, `image_sources` reads
pixels from files, arrays and data sets, `joining` makes one set of several, `near_duplicates` finds images that are
nearly the same, and `categories` reads labels and groups.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
