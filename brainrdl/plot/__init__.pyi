from .arrangement import (
    condition_order as condition_order,
    folds_of as folds_of,
)
from .condition_maps import (
    displacement_map as displacement_map,
    rdm_map as rdm_map,
)
from .cortex_maps import (
    brain_surface as brain_surface,
    glass_brain as glass_brain,
)
from .images import (
    rdm as rdm,
    rdms as rdms,
)
from .influence_charts import condition_influence as condition_influence
from .learning_curves import learning_curve as learning_curve
from .mapping import map_table as map_table
from .misfits import (
    pair_table as pair_table,
    worst_pairs as worst_pairs,
)
from .power_curves import power as power
from .rdm_films import rdm_film as rdm_film
from .rsa_charts import (
    model_bars as model_bars,
    model_map as model_map,
)
from .score_charts import (
    comparison as comparison,
    scores as scores,
)
from .second_order import (
    rdm_of_rdms as rdm_of_rdms,
    similarity_matrix as similarity_matrix,
)
from .slice_maps import brain_slices as brain_slices
from .student_teacher import (
    DENSE as DENSE,
    pairs as pairs,
    rdm_folds as rdm_folds,
    rdm_pair as rdm_pair,
)
from .subject_charts import (
    fold_scores as fold_scores,
    subject_scores as subject_scores,
)
from .time_charts import (
    time_by_model as time_by_model,
    time_by_time as time_by_time,
    time_course as time_course,
)
from .trade_offs import pareto as pareto
from .training_curves import history as history
