"""A whole experiment as one YAML file, checked before any work starts.

`schema` defines every key, `starter` writes a template that explains them, `files` reads and writes recipes,
`spelling` writes keys in messages, `building` makes stimuli, teacher, student and loss from a recipe, and `running`
fits and scores. `final_fit` fits to all stimuli after cross-validation, and `sweeping` runs a recipe for several values
of its keys.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
