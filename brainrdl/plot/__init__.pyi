from .brain_maps import (
    brain_slices as brain_slices,
    brain_surface as brain_surface,
    glass_brain as glass_brain,
)
from .images import (
    rdm as rdm,
    rdms as rdms,
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
from .student_teacher import (
    DENSE as DENSE,
    pairs as pairs,
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
