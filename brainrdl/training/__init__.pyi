from .batch_statistics import (
    check_shares as check_shares,
    shared_statistics as shared_statistics,
)
from .callbacks import (
    Callback as Callback,
    Log as Log,
    called as called,
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
    count_own_rows as count_own_rows,
    gather as gather,
    is_first as is_first,
    join as join,
    n_processes as n_processes,
    opened_by_first as opened_by_first,
    own as own,
    own_random_numbers as own_random_numbers,
    own_rows as own_rows,
    start_alike as start_alike,
    wait_for_all as wait_for_all,
)
from .frozen_features import FrozenFeatures as FrozenFeatures
from .frozen_network import (
    FrozenNetwork as FrozenNetwork,
    FrozenOutput as FrozenOutput,
    frozen as frozen,
)
from .gradient_caching import cached_backward as cached_backward
from .loading import Loader as Loader
from .looks import (
    Guard as Guard,
    batches_of as batches_of,
    check_loss as check_loss,
    check_patterns as check_patterns,
    look as look,
    look_at_task as look_at_task,
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
    parameter_groups as parameter_groups,
)
from .options import (
    FitOptions as FitOptions,
    TaskOptions as TaskOptions,
    TrainingOptions as TrainingOptions,
)
from .provenance import (
    Described as Described,
    describe as describe,
    gather_provenance as gather_provenance,
)
from .run_folder import (
    FitResult as FitResult,
    load_fit as load_fit,
    load_weights as load_weights,
    open_folder as open_folder,
    save_fit as save_fit,
    save_weights as save_weights,
)
from .sampling import (
    Batches as Batches,
    coverage as coverage,
    split as split,
)
from .steps import (
    Run as Run,
    Stream as Stream,
)
from .stimulus_lists import (
    check_no_leak as check_no_leak,
    check_sets_apart as check_sets_apart,
    training_names as training_names,
)
from .stratified import StratifiedBatches as StratifiedBatches
from .task import Task as Task
from .terms import (
    Balance as Balance,
    Term as Term,
    check_terms as check_terms,
)
from .transfer_terms import (
    Hints as Hints,
    KernelAlignment as KernelAlignment,
    KnowledgeDistillation as KnowledgeDistillation,
    ProbabilisticTransfer as ProbabilisticTransfer,
    RelationalDistillation as RelationalDistillation,
    SimilarityPreserving as SimilarityPreserving,
)
