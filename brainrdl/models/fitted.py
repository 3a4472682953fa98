"""Weights of a fitted run: its network together with the readouts that were trained.

The weights of a run describe a student. Its network alone would give other patterns than those that were fitted: a
projection may be all that was trained. So wherever such weights are used, the readouts are used with them, or the
weights are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError, arg, quote, refuse
from brainrdl._core.tensor_checks import check_finite
from brainrdl.models.networks import Network, as_trained, build
from brainrdl.models.readout import Readout, steps_of
from brainrdl.models.student import Student, key_of_layer
from brainrdl.models.trained_on import TrainedOn, network_facts, stored_images
from brainrdl.models.weights import HEADS, NETWORK, STUDENT, load_state, read_student

_KEYS = ("pool", "standardise", "projection", "step")


def student_facts(student: Student, images: TrainedOn | None = None) -> dict[str, Any]:
    """Describe a student for its weight file: layers, readouts, which part is trained, images and network.

    Parameters
    ----------
    student : Student
    images : TrainedOn, optional
        The images that it was trained on.

    Examples
    --------
    >>> student_facts(Student(nn.Sequential(nn.Linear(4, 3)), ["0"]))["student"]["trainable"]
    'all'
    """
    readouts = {head.layer: asdict(head.readout) for head in student.readout_heads()}
    facts = {"readouts": readouts, "trainable": student.trainable}
    if images is None:
        return {STUDENT: facts}
    network = {}
    if all(isinstance(size, int) for size in images.shape):  # not several inputs
        with suppress(BrainrdlError):  # a network of token ids does not take the random numbers of the test
            network = network_facts(student.model, steps_of(student.readout_heads()), images.shape, student.device)
    return {STUDENT: facts | {"images": asdict(images), "network": network}}


@dataclass(frozen=True)
class FittedWeights:
    """Network and readouts of a fitted run.

    Attributes
    ----------
    path : Path
        The file.
    state : dict of str to Tensor
        The student's state.
    readouts : dict of str to Readout
        The readout of each layer.
    trainable : str
        Which part was trained, as in `Student`.
    told : mapping
        The description of the student in the file, see `student_facts`.

    Examples
    --------
    >>> FittedWeights(Path("w.safetensors"), {}, {"fc": Readout("cls")}, "all").readout("fc")
    Readout(pool='cls', standardise=False, projection=None, step=-1)
    """

    path: Path
    state: Mapping[str, Tensor]
    readouts: Mapping[str, Readout]
    trainable: str
    told: Mapping[str, Any] = field(default_factory=dict)

    def readout(self, layer: str, given: Readout | None = None, keys: Sequence[str] = _KEYS) -> Readout:
        """Return the readout of a layer as it was trained.

        Parameters
        ----------
        layer : str
            One layer, or several joined by ``"+"``.
        given : Readout, optional
            The readout asked for.
        keys : sequence of str
            What of it was asked for.

        Raises
        ------
        BrainrdlError
            If the run trained another readout of the layer than the one asked for, or if it trained only readouts, and
            none of this layer, so that the layer is that of the network before the run.

        Examples
        --------
        >>> FittedWeights(Path("w.safetensors"), {}, {"fc": Readout(projection=2)}, "projection").readout("conv1")
        Traceback (most recent call last):
        brainrdl.BrainrdlError: weights 'w.safetensors' are of a run that trained readouts of layers ['fc'] and not ...
        """
        known = self.readouts.get(layer)
        if known is None:
            if self.trainable in ("projection", "none"):
                refuse(
                    f"weights {str(self.path)!r} are of a run that trained readouts of layers {quote(self.readouts)} "
                    f"and not the network, so layer {layer!r} is that of the network before the run; choose one of "
                    f"these layers, or give the weights from which the run started with {arg('weights')}"
                )
            return given or Readout()
        wanted = {key: getattr(known, key) for key in keys if given and getattr(given, key) != getattr(known, key)}
        if wanted:
            refuse(
                f"weights {str(self.path)!r} were trained with another readout of layer {layer!r}; set "
                f"{', '.join(arg(key, value) for key, value in wanted.items())}, or train with that readout"
            )
        return known

    def load_network(self, module: nn.Module) -> None:
        """Load the network without its readouts.

        Raises
        ------
        BrainrdlError
            If names or shapes differ from those of `module`, a value is not finite, or `module` is another network
            than the one that was trained.
        """
        load_state(module, self._part(NETWORK), self.path, self.told)

    def load(self, student: Student) -> None:
        """Load network and readouts into a student, and keep the means and standard deviations of the run.

        From then on the student refuses images of another shape or transform (`Student.trained_on`).

        Raises
        ------
        BrainrdlError
            As in `load_network` and `readout`.
        """
        for head in student.readout_heads():
            self.readout(head.layer, head.readout)
        self.load_network(student.model)
        student.trained_on = stored_images(self.told)
        for head in student.readout_heads():
            own = self._part(f"{HEADS}{key_of_layer(head.layer)}.")
            for name, value in own.items():
                check_finite(value, f"{name} of the readout of layer {head.layer!r} in {str(self.path)!r}")
            if head.layer in self.readouts:
                head.load_state_dict(own)
                head.keeps_standardisation = True

    def _part(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)}


def read_fitted(path: Path | str | None) -> FittedWeights | None:
    """Read the weights of a fitted run, ``weights.safetensors``; None for weights of another kind.

    Parameters
    ----------
    path : Path, str or None
        What may be a file, or the name of other weights.

    Raises
    ------
    BrainrdlError
        If the file is damaged.

    Examples
    --------
    >>> read_fitted("DEFAULT") is None
    True
    """
    found = None if path is None else read_student(Path(path))
    if path is None or found is None:
        return None
    state, told = found
    readouts = {layer: Readout(**keys) for layer, keys in told["readouts"].items()}
    return FittedWeights(Path(path), state, readouts, told["trainable"], told)


def build_fitted(name: str, weights: str | Path | None = None) -> tuple[Network, FittedWeights | None]:
    """Build a network as `build` does, also from the weights of a fitted run, whose readouts are returned with it.

    Its transform and size are those of the images that the run was trained on.

    Examples
    --------
    >>> network, fitted = build_fitted("lenet")
    >>> network.size, fitted is None
    (28, True)
    """
    fitted = read_fitted(weights)
    network = build(name, None if fitted else weights)
    if fitted is not None:
        fitted.load_network(network.module)
        network = as_trained(network, fitted.path)
    return network, fitted


def fitted_student(
    model: nn.Module | str, weights: str | Path, layers: Sequence[str] | None = None, readout: Readout | None = None
) -> Student:
    """Return the student of a fitted run: the network with the readouts that were trained.

    Parameters
    ----------
    model : nn.Module or str
        The network of the run; a module is changed in place. Or its name for `build`.
    weights : path
        ``weights.safetensors`` of the run.
    layers : sequence of str, optional
        Layers to read; those of the run by default. If the run trained the network, other layers can be read too.
    readout : Readout, optional
        The readout of layers that the run did not fit; for those that it fitted, pool and step must be those that were
        trained.

    Returns
    -------
    Student
        With ``trainable="none"``.

    Raises
    ------
    BrainrdlError
        If the file is not that of a fitted run, does not fit the network, or has other readouts.

    Examples
    --------
    >>> fitted_student("lenet", "DEFAULT")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: 'DEFAULT' is not a weight file of a fitted run (weights.safetensors)
    """
    fitted = read_fitted(weights)
    if fitted is None:
        refuse(f"{str(weights)!r} is not a weight file of a fitted run (weights.safetensors)")
    module = build(model).module if isinstance(model, str) else model
    return reader(module, tuple(fitted.readouts) if layers is None else layers, readout, fitted)


def reader(
    module: nn.Module, layers: Sequence[str], readout: Readout | None = None, fitted: FittedWeights | None = None
) -> Student:
    """Return a student that only reads layers, with the readouts of a fitted run if there is one.

    Examples
    --------
    >>> reader(nn.Sequential(nn.Flatten()), ["0"]).trainable
    'none'
    """
    if fitted is None:
        return Student(module, layers, readout=readout or Readout(), trainable="none")
    readouts = {layer: fitted.readout(layer, readout, ("pool", "step")) for layer in layers}
    student = Student(module, layers, readout=readouts, trainable="none")
    fitted.load(student)
    return student
