"""A fitted model outside its run: files to take away, scores on other images and subjects, RDMs of other images.

`finished_runs` reads the student of a run. `exporting` writes it as files that load without brainrdl: `plain_model` is
the code that goes with them, `loading_script` writes the script that loads them. `other_images` scores a run on images
and subjects that it has not seen.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
