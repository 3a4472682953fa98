from . import (
    analysis as analysis,
    datasets as datasets,
    demo as demo,
    dissimilarity as dissimilarity,
    distillation as distillation,
    doctor as doctor,
    evaluation as evaluation,
    inference as inference,
    loss as loss,
    models as models,
    plot as plot,
    rdm_models as rdm_models,
    rdms as rdms,
    readers as readers,
    recipe as recipe,
    reporting as reporting,
    runs as runs,
    searchlights as searchlights,
    sharing as sharing,
    similarity as similarity,
    stimuli as stimuli,
    teachers as teachers,
    testing as testing,
    training as training,
)
from ._core.errors import BrainrdlError as BrainrdlError, DivergedError as DivergedError
from .analysis.plain_rsa import rsa as rsa
from .analysis.rsa_result import RSAResult as RSAResult
from .evaluation.comparison import compare as compare
from .evaluation.cross_validation import cross_validate as cross_validate
from .evaluation.held_out import Evaluation as Evaluation, evaluate as evaluate
from .loss.rdm_loss import RDMLoss as RDMLoss
from .models.readout import Readout as Readout
from .models.student import Student as Student
from .rdms.estimation import calc_rdm as calc_rdm
from .readers.reading import read as read
from .reporting.page import report as report
from .runs.finished_fits import FitResult as FitResult
from .searchlights.searching import searchlight as searchlight
from .sharing.exporting import export as export
from .stimuli.named_images import Stimuli as Stimuli
from .teachers.feature_teacher import FeatureTeacher as FeatureTeacher
from .teachers.joint_teacher import JointTeacher as JointTeacher
from .teachers.network_teacher import NetworkTeacher as NetworkTeacher
from .teachers.rdm_teacher import RDMTeacher as RDMTeacher
from .training.loop import fit as fit
from .training.task import Task as Task

__version__: str
