"""Networks, the patterns of their layers, and the student that is fitted.

`networks` builds a network from its name, `weights` loads its parameters, `layers` captures the outputs of layers by
means of `hooks`, `rows` tests that each row of an output belongs to one image, `axes` finds the dimension of the
channels, `pooling` (names in `pools`) and `readout` turn outputs into patterns, and `student` joins these steps.
`layer_table` lists the layers, `gradients` tests that a layer can be trained, `fitted` reads the weights of a fitted
run with their readouts, `trained_on` tests that they are used with the images and the network of the run, and
`feature_cache` stores the patterns of a frozen network.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
