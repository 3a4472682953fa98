"""For the reference: a function, class or reader that accepts ``**options`` is shown with each, as `help` shows it."""

from __future__ import annotations

import inspect
from pkgutil import resolve_name
from typing import Any

import griffe


class ListedOptions(griffe.Extension):
    """Take the options' parameters and text from the function itself: griffe reads the source, where they are one."""

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        shared = any("options_from" in str(decorator.value) for decorator in func.decorators)
        if not shared and not any("Unpack" in str(parameter.annotation) for parameter in func.parameters):
            return
        documented = func.parent if func.name == "__init__" and func.parent is not None else func
        live = resolve_name(documented.path)
        if documented.docstring is not None:
            documented.docstring.value = inspect.getdoc(live) or ""
        spelled = [each for each in func.parameters if each.kind is not griffe.ParameterKind.var_keyword]
        known = {parameter.name for parameter in spelled}
        listed = [
            griffe.Parameter(
                name,
                annotation=inspect.formatannotation(parameter.annotation),
                kind=griffe.ParameterKind.keyword_only,
                default=repr(parameter.default),
            )
            for name, parameter in inspect.signature(live).parameters.items()
            if name not in known
        ]
        func.parameters = griffe.Parameters(*spelled, *listed)
