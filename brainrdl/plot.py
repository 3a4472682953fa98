"""Functions that draw on an Axes and return it.

Nothing here computes a score: what is drawn is what `Evaluation`, `FitResult` or `compare` hold. Colours are Okabe and
Ito's for classes, viridis for dissimilarities and PuOr, centred at 0, for differences, so that figures survive colour
blindness and grey printing (classes also differ in marker). Pairs without a value are grey, which no scale contains.
Text is 8 pt or larger at the size a figure is made. Letters that the font lacks come from other installed fonts; a name
with letters that none has is drawn as its number (``no. 3``).
"""

from brainrdl._plot_history import history
from brainrdl._plot_pairs import DENSE, pairs, rdm_pair
from brainrdl._plot_rdms import rdm, rdms
from brainrdl._plot_scores import comparison, scores
from brainrdl._terms import KINDS, similarity_label

__all__ = [
    "DENSE",
    "KINDS",
    "comparison",
    "history",
    "pairs",
    "rdm",
    "rdm_pair",
    "rdms",
    "scores",
    "similarity_label",
]
