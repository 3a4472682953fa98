from .batch_statistics import (
    shared_statistics as shared_statistics,
)
from .callbacks import (
    Callback as Callback,
    Log as Log,
)
from .display import (
    Show as Show,
    event_writer as event_writer,
    progress_bar as progress_bar,
    track as track,
)
from .distributed import (
    agreed as agreed,
    anywhere as anywhere,
    average_gradients as average_gradients,
    check_same_buffers as check_same_buffers,
    gather as gather,
    is_first as is_first,
    join as join,
    n_processes as n_processes,
    own as own,
    own_random_numbers as own_random_numbers,
    own_rows as own_rows,
    start_alike as start_alike,
    wait_for_all as wait_for_all,
)
from .frozen_features import FrozenFeatures as FrozenFeatures
from .gradient_caching import cached_backward as cached_backward
from .loading import Loader as Loader
from .looks import (
    check_loss as check_loss,
    look as look,
    to_device as to_device,
)
from .loop import fit as fit
from .optimizers import (
    OPTIMIZERS as OPTIMIZERS,
    SCHEDULES as SCHEDULES,
    averaged as averaged,
    make_accelerator as make_accelerator,
    make_optimizer as make_optimizer,
    make_schedule as make_schedule,
)
from .options import (
    FitOptions as FitOptions,
    TaskOptions as TaskOptions,
    TrainingOptions as TrainingOptions,
)
from .pattern_memory import PatternMemory as PatternMemory
from .recorded_rdms import RecordRDMs as RecordRDMs
from .sampling import (
    Batches as Batches,
    coverage as coverage,
    split as split,
)
from .stimulus_lists import (
    check_no_leak as check_no_leak,
    training_names as training_names,
)
from .stratified import StratifiedBatches as StratifiedBatches
from .streaming import StreamLoader as StreamLoader
from .task import Task as Task
from .terms import (
    Balance as Balance,
    Term as Term,
)
