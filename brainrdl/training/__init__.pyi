from .callbacks import (
    Callback as Callback,
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
    check_one_process as check_one_process,
    check_same_buffers as check_same_buffers,
    gather as gather,
    n_processes as n_processes,
    own as own,
    own_random_numbers as own_random_numbers,
    own_rows as own_rows,
    start_alike as start_alike,
)
from .frozen_features import FrozenFeatures as FrozenFeatures
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
    make_accelerator as make_accelerator,
    make_optimizer as make_optimizer,
    make_schedule as make_schedule,
)
from .options import (
    FitOptions as FitOptions,
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
from .task import (
    Task as Task,
    TaskOptions as TaskOptions,
)
from .terms import (
    Balance as Balance,
    Term as Term,
    check_terms as check_terms,
)
