"""What figures of the brain draw: the values of a map, where it is significant, and their scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import Normalize

from brainrdl._core.errors import arg, check_option, refuse
from brainrdl.plot.style import DIVERGING, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Values = npt.NDArray[np.float64]

ALPHA = 0.05

_WORDS = {"mean": "mean score", "t": "t over subjects", "score": "score"}


@dataclass(frozen=True, eq=False)
class Volume:
    """A map of a volume: its grid, values (NaN: none), where it is significant, and the label of the scale."""

    image: Any
    values: Values
    inside: Values | None
    label: str


def volume_of(found: Any, model: str | None, quantity: str | None, significant: Any) -> Volume:
    if hasattr(found, "get_fdata"):
        if quantity is not None or model is not None:
            refuse(f"an image has no {arg('model')} or {arg('quantity')}; leave them out")
        image, label = found, "value"
    elif hasattr(found, "image") and hasattr(found, "models"):
        model, quantity, significant = chosen(found, model, quantity, significant)
        image = _drawn_image(found.image(model, quantity), quantity) if quantity else found.image(model)
        label = label_of_map(found, model, quantity)
        if isinstance(significant, str):
            p_values = np.asarray(found.image(model, significant).dataobj, dtype=float)
            return _checked(image, np.where(p_values < ALPHA, 1.0, 0.0), f"{label}\noutlines: {significant} < 0.05")
    else:
        refuse(
            f"expected a map of a volume: a SearchlightMap, a GroupMap or a nibabel image, got {type(found).__name__}"
        )
    inside = None if significant is None else on_grid(significant, image, "significant")
    return _checked(image, None if inside is None else np.where(inside == 0, 0.0, 1.0), label)


def chosen(found: Any, model: str | None, quantity: str | None, significant: Any) -> tuple[str, str | None, Any]:
    """Return model, quantity (None for a map of one subject) and p-value, by default the first, t and p_fwe."""
    model = found.models[0] if model is None else check_option(model, found.models, "model")
    if not isinstance(found.values, dict):
        if quantity is not None or isinstance(significant, str):
            refuse(f"a map of one subject has scores only; leave out {arg('quantity')} and the name of a p-value")
        return model, None, significant
    quantity = check_option(quantity or "t", tuple(found.values), "quantity")
    if isinstance(significant, str):
        check_option(significant, [name for name in found.values if name.startswith("p")], "significant")
    return model, quantity, "p_fwe" if significant is None else significant


def drawn_values(values: Values, quantity: str | None) -> Values:
    """Return -log10 of p-values, so that the smallest have the strongest colours; other quantities as they are."""
    return -np.log10(np.maximum(values, np.finfo(float).tiny)) if (quantity or "").startswith("p") else values


def _drawn_image(image: Any, quantity: str) -> Any:
    import nibabel

    return nibabel.Nifti1Image(drawn_values(np.asarray(image.dataobj, dtype=float), quantity), image.affine)


def label_of_map(found: Any, model: str, quantity: str | None) -> str:
    word = _WORDS.get(quantity or "score", f"\N{MINUS SIGN}log10 {quantity}")
    measure = found.settings.get("comparator")
    return (
        f"{word} ({measure})\nmodel: {model}" if measure and quantity in (None, "mean") else f"{word}\nmodel: {model}"
    )


def _checked(image: Any, inside: Values | None, label: str) -> Volume:
    values = np.asarray(image.dataobj, dtype=float)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
        inside = inside if inside is None or inside.ndim == 3 else inside[..., 0]
    if values.ndim != 3:
        refuse(
            f"the map has shape {values.shape}, not (x, y, z); choose one time, as in found.image(model).slicer[..., 0]"
        )
    if not np.isfinite(values).any():
        refuse("the map has no value: all voxels are NaN")
    return Volume(image, values, inside, label)


def on_grid(other: Any, image: Any, what: str) -> Values:
    shape = image.shape[:3]
    values = np.asarray(other.dataobj if hasattr(other, "dataobj") else other, dtype=float)
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    differs = hasattr(other, "affine") and not np.allclose(other.affine, image.affine, atol=1e-3)
    if values.shape != shape or differs:
        refuse(
            f"{arg(what)} is on another grid than the map: shape {values.shape} and {shape}; resample it, for example "
            "with nilearn.image.resample_to_img"
        )
    return values


def draw_scale(figure: Figure, axes: list[Axes], edge: float, label: str) -> None:
    bar = figure.colorbar(colours(edge), ax=axes, shrink=0.8, aspect=16, pad=0.02)
    dress_scale(bar, label)


def colours(edge: float) -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(Normalize(-edge, edge), DIVERGING)


def dress_scale(bar: Any, label: str) -> None:
    bar.set_label("\n".join(plain(line, 40) for line in label.splitlines()))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2)
