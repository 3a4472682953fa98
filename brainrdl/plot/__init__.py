"""Functions that draw on an Axes and return it.

`images` draws RDMs, in the order of `arrangement`, with `margins` of names, categories and `thumbnails`;
`student_teacher` the RDMs of a student and a teacher, `misfits` the pairs that differ most, `influence_charts` the
conditions that matter most, `second_order` similarities between RDMs, and `condition_maps` conditions as points in the
plane, placed by `mapping`. `score_charts` draws scores with their ceilings, `rsa_charts` scores of models with several
targets, `subject_charts` scores by subject and by fold, `training_curves` the history of a fit, `rdm_films` a student's
RDM during training, `trade_offs` two measures of a sweep, `time_charts` scores over time, `slice_maps` and
`cortex_maps` maps of searchlights (`brain_maps` says what is drawn of them), `learning_curves` scores by the amount of
data, `power_curves` the power of planned studies. They share `style` (colours and axes), `score_tables` (rows of
tables), `pair_marks` (brackets and arrows) and `point_labels`. No score is computed here: the figures show the tables
and RDMs of an `Evaluation`, an `RSAResult`, a `FitResult`, a sweep or `compare`. Classes have the colours of Okabe and
Ito (and different markers), categories of conditions those of Tol, which also differ in grey, dissimilarities viridis,
and values around 0 `DIVERGING` of `style`, from dark blue over grey to light yellow, so that colour-blind readers can
read the figures and they can be printed in grey. Signs of differences are also written in the cells of small figures,
and outlines of significant voxels are dotted where a map is negative. Pairs without a value are light grey, a colour
that no scale contains. Text has 8 pt or more at the size at which a figure is made, and labels that would overlap are
thinned, left out or counted. Characters that the font lacks come from other installed fonts; a name with characters
that no font has is replaced by its number (``no. 3``).
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
