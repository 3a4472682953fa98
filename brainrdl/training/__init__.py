"""Fitting a student to a teacher: the loop, and what makes a run reproducible.

`loop` is the training loop (`fit`), `steps` what it does at each step, `options` holds its options. What is trained on:
the RDM's stimuli and images of a `task`, loaded by `loading`; further `terms` of the loss, among them those of network
distillation (`transfer_terms`, `frozen_network`); `callbacks` of your own. The other modules support it: which stimuli
it may use (`stimulus_lists`, `sampling`, `stratified`), the optimiser (`optimizers`), evaluations during training
(`looks`), the progress bar (`display`), several devices (`distributed`, `batch_statistics`), steps that are larger than
the memory (`gradient_caching`), networks that do not change (`frozen_features`), and the run folder (`run_folder`,
`checkpoint`, `provenance`, `fingerprint`).
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
