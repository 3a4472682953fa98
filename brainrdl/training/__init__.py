"""Fitting a student to a teacher: the loop, and what makes a run reproducible.

`loop` is the training loop (`fit`), `options` holds its options. The other modules support it: which stimuli it
may use (`stimulus_lists`, `sampling`), the optimiser (`optimizers`), evaluations during training (`looks`), the
progress bar (`display`), several devices (`distributed`, `batch_statistics`), steps that are larger than the memory
(`gradient_caching`), networks that do not change (`frozen_features`), and the run folder (`run_folder`, `checkpoint`,
`provenance`, `fingerprint`).
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
