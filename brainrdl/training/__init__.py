"""Fitting a student to a teacher: the loop, and what it needs.

`loop` is the training loop (`fit`), `preparation` makes a run of its arguments, `steps` is what it does at each step,
`options` holds its options. The data are
the RDM's stimuli and images of a `task`, loaded by `loading` or read from a stream by `streaming`; further `terms` of
the loss; `callbacks` of your own, and one that keeps RDMs (`recorded_rdms`). The other modules support it: which
stimuli it may use (`stimulus_lists`, `sampling`, `stratified`), the optimiser (`optimizers`), evaluations during
training (`looks`), the progress bar (`display`), several devices (`distributed`, `batch_statistics`), steps that are
larger than the memory (`gradient_caching`) or than the batch (`pattern_memory`), and networks that do not change
(`frozen_features`).
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
