from .plain_rsa import rsa as rsa
from .rsa_result import RSAResult as RSAResult
