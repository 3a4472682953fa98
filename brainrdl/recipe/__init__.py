"""A whole experiment as one YAML file, checked before any work starts.

`schema` lists every key, `starter` explains them in a recipe to start from, `files` reads and writes recipes,
`spelling` says how messages spell a key, `building` makes stimuli, teacher, student and loss of one, and `running` fits
and scores.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
