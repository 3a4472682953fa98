from .comparison import (
    compare as compare,
    rdm_labels as rdm_labels,
)
from .cross_validation import cross_validate as cross_validate
from .elsewhere import (
    evaluate_elsewhere as evaluate_elsewhere,
    seen_images as seen_images,
)
from .fitted_models import cross_validate_models as cross_validate_models
from .folds import stimulus_folds as stimulus_folds
from .held_out import (
    Evaluation as Evaluation,
    assemble as assemble,
    evaluate as evaluate,
    teacher_rdms as teacher_rdms,
)
from .jobs import (
    count_workers as count_workers,
    run_jobs as run_jobs,
)
from .options import (
    COMPARATORS as COMPARATORS,
    CONTROLS as CONTROLS,
    CrossValidationOptions as CrossValidationOptions,
    EvaluationOptions as EvaluationOptions,
    Splitter as Splitter,
)
from .plan import Candidate as Candidate
from .rsatoolbox_result import to_result as to_result
from .scores import (
    HeldOut as HeldOut,
    TeacherRDMs as TeacherRDMs,
    score as score,
)
from .simple_models import model_rdms as model_rdms
