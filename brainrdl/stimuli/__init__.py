"""Named images: their sources, their conversion to tensors, and their categories.

`named_images` defines `Stimuli`, `transforms` the steps from pixels to the input of a network, `augmentation` random
changes of a batch, `views` all of these steps together, `folders` lists image files, `image_sources` reads pixels from
files, arrays and data sets, `inputs` holds items that are not images, `joining` makes one set of several, `memory`
keeps images that were loaded, `near_duplicates` finds images that are nearly the same, `streams` reads labelled images
that have an order but no names, and `categories` reads labels and groups.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
