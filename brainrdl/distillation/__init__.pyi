from .frozen_network import (
    FrozenNetwork as FrozenNetwork,
    FrozenOutput as FrozenOutput,
    frozen as frozen,
)
from .transfer_losses import (
    probabilistic_loss as probabilistic_loss,
    relational_loss as relational_loss,
    similarity_preserving_loss as similarity_preserving_loss,
)
from .transfer_terms import (
    Hints as Hints,
    KernelAlignment as KernelAlignment,
    KnowledgeDistillation as KnowledgeDistillation,
    ProbabilisticTransfer as ProbabilisticTransfer,
    RelationalDistillation as RelationalDistillation,
    SimilarityPreserving as SimilarityPreserving,
)
