"""Functions that draw on an Axes and return it.

`images` shows RDMs, `student_teacher` a student's RDM beside a teacher's, `score_charts` scores with their ceilings,
`training_curves` the history of a fit; `style` holds colours and axes. Nothing here computes a score: the figures show
what `Evaluation`, `FitResult` or `compare` hold. Colours are those of
Okabe and Ito for classes (classes also differ in marker), viridis for dissimilarities, and PuOr, centred at 0, for
differences, so that figures remain legible for colour-blind readers and in grey print. Pairs without a value are grey,
a colour that no scale contains. Text is 8 pt or larger at the size at which a figure is made. Letters that the font
lacks come from other installed fonts; a name with letters that no font has is drawn as its number (``no. 3``).
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
