from .plain_rsa import rsa as rsa
from .rsa_result import RSAResult as RSAResult
from .toolbox_results import scores_of_result as scores_of_result
