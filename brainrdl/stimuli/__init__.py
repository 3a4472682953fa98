"""Named images: where they come from, how they become tensors, and which category they belong to.

`named_images` holds `Stimuli`, `transforms` the steps from pixels to a network's input, `image_sources` the files,
arrays and data sets behind them, and `categories` the labels.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
