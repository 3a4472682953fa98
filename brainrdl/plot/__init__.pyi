from .images import (
    rdm as rdm,
    rdms as rdms,
)
from .power_curves import power as power
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
    time_by_time as time_by_time,
    time_course as time_course,
)
from .trade_offs import pareto as pareto
from .training_curves import history as history
