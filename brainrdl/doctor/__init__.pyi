from .auditing import (
    Audit as Audit,
    audit as audit,
)
