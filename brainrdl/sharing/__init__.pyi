from .exporting import (
    Exported as Exported,
    export as export,
    plain_copy as plain_copy,
)
from .finished_runs import (
    FinishedRun as FinishedRun,
    load_run as load_run,
)
from .loading_script import script_of as script_of
from .other_images import evaluate_run_elsewhere as evaluate_run_elsewhere
from .plain_model import (
    Model as Model,
    Pattern as Pattern,
)
