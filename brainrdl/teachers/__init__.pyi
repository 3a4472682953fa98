from .controls import (
    CONTROLS as CONTROLS,
    PermutedTeacher as PermutedTeacher,
    control as control,
    same_spectrum as same_spectrum,
)
from .feature_teacher import FeatureTeacher as FeatureTeacher
from .joint_teacher import JointTeacher as JointTeacher
from .network_teacher import NetworkTeacher as NetworkTeacher
from .protocol import (
    VIEWS as VIEWS,
    Teacher as Teacher,
)
from .rdm_teacher import (
    COMBINE as COMBINE,
    RDMTeacher as RDMTeacher,
)
