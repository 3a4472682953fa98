"""Everything that can be a model: RDMs, files of RDMs, networks with layers, and fitted networks of finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import about, arg, named, quote, refuse
from brainrdl.dissimilarity.measures import Dissimilarity, traits_of
from brainrdl.models.fitted import build_fitted, reader
from brainrdl.models.student import Student
from brainrdl.rdms import conversion
from brainrdl.rdms.by_name import names as names_of
from brainrdl.rdms.subjects import groups, in_words
from brainrdl.recipe.building import make_loss
from brainrdl.recipe.files import RECIPE
from brainrdl.runs.finished_fits import FitResult
from brainrdl.sharing.finished_runs import FinishedRun, load_run
from brainrdl.stimuli.named_images import Stimuli

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

Source = Any  # RDMs, a path, "network:layer,layer", a Student, a FitResult or a FinishedRun

_RANDOM = "random"
_WITHOUT_WEIGHTS = ("lenet", "small_cnn")  # and factories, which load their own

_SUBJECT, _LAYER, _MODEL = "subject", "layer", "model"


@dataclass(frozen=True, eq=False)
class ModelRDM:
    """One model RDM, or one for each subject.

    Attributes
    ----------
    model, layer : str
        Name in the tables; the layer is "" if the model is not a layer of a network.
    names : tuple of str
        Conditions.
    pairs : Tensor (n_rdms, n_pairs)
        Dissimilarities, float64.
    subjects : tuple of str
        Subject of each RDM; empty if it is one RDM for all subjects. One RDM of a subject who is not among those of
        the data is a model for all of them, too.
    measure : str, optional
        The dissimilarity, if it is known.
    kind : str
        "rdms" if it was given as RDMs, "network" for a network that was given by name, otherwise "student".

    Examples
    --------
    >>> model = ModelRDM("size", "", tuple("abc"), torch.tensor([[1.0, 2.0, 3.0]]))
    >>> model.of(("c", "a", "b")).pairs.tolist()
    [[2.0, 3.0, 1.0]]
    """

    model: str
    layer: str
    names: tuple[str, ...]
    pairs: Float[Tensor, "n_rdms n_pairs"]
    subjects: tuple[str, ...] = ()
    measure: str | None = None
    kind: str = "student"

    @property
    def label(self) -> str:
        """Model and layer in one text."""
        return f"{self.model}, {self.layer}" if self.layer else self.model

    def of(self, names: Sequence[str]) -> ModelRDM:
        """Return the conditions `names`, in this order."""
        if tuple(names) == self.names:
            return self
        rdms = conversion.from_tensor(self.pairs, self.names)
        return replace(self, names=tuple(names), pairs=conversion.to_tensor(rdms, names, dtype=torch.float64))

    def _owned(self, subjects: Sequence[str]) -> bool:
        """Whether RDMs are for one subject each, not one RDM of somebody else as a model for everybody."""
        return len(self.subjects) > 1 or self.subjects[0] in subjects

    def for_subjects(self, subjects: Sequence[str]) -> Float[Tensor, "*n_subjects n_pairs"]:
        """Return the RDM ``(n_pairs,)`` for all subjects, or the RDMs ``(n_subjects, n_pairs)`` of these."""
        if not self.subjects or not self._owned(subjects):
            return self.pairs[0]
        if missing := [subject for subject in subjects if subject not in self.subjects]:
            refuse(
                f"model {self.label!r} has RDMs of single subjects {quote(self.subjects)}, but none "
                f"for {quote(missing)} of the data; add them, or delete the rdm descriptor 'subject' from a model for "
                "everybody"
            )
        return self.pairs[[self.subjects.index(subject) for subject in subjects]]


def model_rdms_of(
    models: Source | Sequence[Source] | Mapping[str, Source],
    stimuli: Stimuli | Path | str | None,
    dissimilarity: str | Dissimilarity | None,
    names: Sequence[str],
    *,
    weights: str | Path | None = None,
    by: str = "stimulus",
    allow_missing: bool = False,
    progress: bool = False,
) -> list[ModelRDM]:
    """Make the RDMs of all models; those of networks are computed for the stimuli with these `names`.

    Examples
    --------
    >>> from brainrdl import rdms
    >>> size = rdms.from_array([1.0, 2.0, 3.0], list("abc"))
    >>> [model.label for model in model_rdms_of({"size": size}, None, None, list("abc"))]
    ['size']
    """
    make = _Maker(stimuli, dissimilarity, tuple(names), weights, by, allow_missing, progress)
    found = [one for name, source in _listed(models) for one in make.of(name, source)]
    if not found:
        refuse("no models were given; give RDMs, files of RDMs, networks with layers, or run folders")
    kinds = {one.kind for one in found}
    if dissimilarity is not None and kinds == {"rdms"}:
        refuse(
            f"{named('dissimilarity')} only applies to networks, and all models are RDMs; leave it out, got "
            f"{dissimilarity!r}"
        )
    if weights is not None and "network" not in kinds:
        refuse(
            f"{named('weights')} only apply to networks that are given by name; leave them out, got {str(weights)!r}"
        )
    return _with_unique_names(found)


def _listed(models: Any) -> list[tuple[str | None, Source]]:
    if isinstance(models, Mapping):
        return [(str(name), source) for name, source in models.items()]
    several = isinstance(models, Sequence) and not isinstance(models, str)
    return [(None, source) for source in models] if several and not hasattr(models, "get_vectors") else [(None, models)]


def _with_unique_names(found: Sequence[ModelRDM]) -> list[ModelRDM]:
    keys = [(one.model, one.layer) for one in found]
    if twice := [", ".join(filter(None, key)) for key in dict.fromkeys(keys) if keys.count(key) > 1]:
        refuse(f"several models are called {quote(twice)}; give {arg('models')} as a mapping of name to model")
    return list(found)


@dataclass(frozen=True)
class _Maker:
    stimuli: Stimuli | Path | str | None
    dissimilarity: str | Dissimilarity | None
    names: tuple[str, ...]
    weights: str | Path | None
    by: str
    allow_missing: bool
    progress: bool

    def of(self, name: str | None, source: Source) -> list[ModelRDM]:
        if isinstance(source, (str, Path)):
            return self._of_path(name, source)
        if isinstance(source, FinishedRun):
            return self._of_run(name or source.folder.name, source)
        if isinstance(source, FitResult):
            return self._of_student(name or "student", source.student, None)
        if isinstance(source, Student):
            return self._of_student(name or "student", source, None)
        if hasattr(source, "rdm_descriptors"):
            return self._of_rdms(name, source)
        refuse(
            "a model is RDMs, a file of RDMs, a Student, a result of fit, a run folder or 'network:layer,layer', got "
            f"{type(source).__name__}"
        )

    def _of_path(self, name: str | None, source: Path | str) -> list[ModelRDM]:
        path = Path(source)
        network, colon, layers = str(source).rpartition(":")  # a factory, package.module:name, has one, too
        if colon and not path.exists():
            return self._of_network(name or network, network, layers.split(","))
        if path.is_dir() and (
            (path / RECIPE).is_file() or (path.parent / RECIPE).is_file() or path.parent.name == "fits"
        ):
            return self._of_run(name or path.name, load_run(path))
        with about(f"model {str(source)!r}"):
            return self._of_rdms(name or path.name.partition(".")[0], _read(source, self.by))

    def _of_network(self, name: str, network: str, layers: Sequence[str]) -> list[ModelRDM]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of random weights
            built, fitted = build_fitted(network, self._weights_of(network))
            student = reader(built.module, list(layers), None, fitted)
        return [replace(one, kind="network") for one in self._of_student(name, student, built.transform)]

    def _weights_of(self, network: str) -> str | Path | None:
        """Weights to build a network with; random ones only if they are asked for, or it has no others."""
        if self.weights is None and network not in _WITHOUT_WEIGHTS and ":" not in network:
            refuse(
                f"it is not said which weights network {network!r} has; give {arg('weights', 'DEFAULT')} for trained "
                f"ones, {arg('weights', 'random')}, or a file of weights"
            )
        return None if self.weights == _RANDOM else self.weights

    def _of_run(self, name: str, run: FinishedRun) -> list[ModelRDM]:
        measure = make_loss(run.recipe).dissimilarity if self.dissimilarity is None else self.dissimilarity
        return replace(self, dissimilarity=measure)._of_student(name, run.student, run.transform)

    def _of_student(self, name: str, student: Student, transform: Any) -> list[ModelRDM]:
        measure = "correlation" if self.dissimilarity is None else self.dissimilarity
        if isinstance(measure, str) and traits_of(measure).cross_validated:
            refuse(f"dissimilarity {measure!r} is cross-validated over runs, and a network has no runs; choose another")
        if self.stimuli is None:
            refuse(f"network {name!r} needs the images of the conditions; give them with {arg('stimuli')}")
        shown = self.stimuli if isinstance(self.stimuli, Stimuli) else Stimuli.from_folder(self.stimuli)
        shown = shown if transform is None else shown.with_transform(transform)
        shown = shown.align(self.names, self.allow_missing)
        with torch.no_grad():
            found = student.rdms(shown, dissimilarity=measure, progress=self.progress)
        pairs = conversion.to_tensor(found, dtype=torch.float64)
        return [
            ModelRDM(name, str(layer), shown.names, row[None], measure=found.dissimilarity_measure)
            for layer, row in zip(student.layers, pairs, strict=True)
        ]

    def _of_rdms(self, name: str | None, rdms: RDMs) -> list[ModelRDM]:
        pairs, names = conversion.to_tensor(rdms, by=self.by, dtype=torch.float64), names_of(rdms, self.by)
        described = {key: in_words(list(rdms.rdm_descriptors[key])) for key in rdms.rdm_descriptors if key != "index"}
        subjects = described.pop(_SUBJECT, [""] * rdms.n_rdm)
        of_subjects = len(set(subjects)) > 1
        if of_subjects:  # an age or a file for each subject is not another model
            described = {key: described[key] for key in groups(rdms).target_by if key in described}
        rows: dict[tuple[str, str], list[int]] = {}
        for row, key in enumerate(_labels(name, described, rdms.n_rdm, of_subjects)):
            rows.setdefault(key, []).append(row)
        found = []
        for (model, layer), places in rows.items():
            owners = tuple(subjects[row] for row in places) if all(subjects) else ()
            if len(places) > max(1, len(set(owners))):
                refuse(
                    f"{len(places)} RDMs of model {model!r} differ in no rdm descriptor; give each a descriptor "
                    "'model' or 'layer', or 'subject' if each is for one subject"
                )
            found.append(ModelRDM(model, layer, names, pairs[places], owners, rdms.dissimilarity_measure, "rdms"))
        return found


def _read(source: Path | str, by: str) -> RDMs:
    from rsatoolbox.rdm import RDMs

    from brainrdl.readers.reading import read

    found: Any = read(source, by=by)
    if not isinstance(found, RDMs):
        refuse(f"it holds measurements ({type(found).__name__}), not RDMs; compute RDMs first with brainrdl.calc_rdm")
    return found


def _labels(
    name: str | None, described: Mapping[str, Sequence[str]], n_rdms: int, of_subjects: bool
) -> list[tuple[str, str]]:
    """Model and layer of each RDM, from the descriptors in which the RDMs differ."""
    layers = described.get(_LAYER, [""] * n_rdms)
    differ = [values for key, values in described.items() if key != _LAYER and len(set(values)) > 1]
    if not differ and _LAYER not in described and n_rdms > 1 and not of_subjects:
        differ = [[str(k) for k in range(1, n_rdms + 1)]]
    single = (
        name or next(iter(described.get(_MODEL, ())), None) or next(iter(described.get("name", ())), None) or "model"
    )
    words = [" ".join(row) for row in zip(*differ, strict=True)] if differ else [""] * n_rdms
    models = [f"{name}: {word}" if name and word else word or single for word in words]
    return list(zip(models, layers, strict=True))
