"""A task that a student learns in addition to RDMs: images, labels or values, and a loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from brainrdl._core.errors import arg, check_conditions, quote, refuse
from brainrdl._core.options import check_known, complete, lists_options
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.stimuli.streams import ImageStream
from brainrdl.training.options import TaskOptions


@lists_options(TaskOptions)
class Task:
    """A task for `fit`: images with labels or values, and a loss of the student's logits.

    Parameters
    ----------
    stimuli : Stimuli, ImageStream or iterable, optional
        Images of the task. By default the images are those of the RDM, which must have labels; then each step passes
        one batch through the network for both losses. An iterable, for example a ``torch.utils.data.IterableDataset``,
        is read as an `ImageStream`.
    values : mapping of name to number or list of numbers, optional
        Values to predict, for ``loss="mse"`` or a function; by default the labels of the images.
    validation : sequence of str, float, or Stimuli
        Names of task images for validation, or the fraction of them; ignored if the images are those of the RDM, whose
        validation stimuli are used. Of a stream: other images, with the transform and the class names of the stream.
    **options
        See `brainrdl.training.TaskOptions`.

    Raises
    ------
    BrainrdlError
        If an option is unknown, or options do not go together.

    Notes
    -----
    With the default loss, the output of the network has shape (n, n_classes). Logit i belongs to ``categories[i]`` of
    the images: in alphabetical order, or in the order of the classes of a torch data set.

    With ``overlap="drop"``, each fold of a cross-validation drops the task images that it holds out, so folds differ in
    their task images; the settings of each fit say how many there are (``task_images``). Task images for validation are
    dropped only if the RDM holds them out for testing. A warning lists nearly identical images.

    Examples
    --------
    >>> from brainrdl import Stimuli
    >>> digits = Stimuli.from_arrays(torch.rand(6, 1, 8, 8), list("abcdef"), labels=list("001122"))
    >>> Task(digits, weight=0.5, label_smoothing=0.1)
    Task(6 images, 3 categories, cross-entropy, weight 0.5)
    """

    def __init__(
        self,
        stimuli: Stimuli | ImageStream | Iterable[Any] | None = None,
        *,
        values: Mapping[str, float | Sequence[float]] | None = None,
        validation: Sequence[str] | float | Stimuli = (),
        **options: Unpack[TaskOptions],
    ) -> None:
        check_known(options, Task)
        named = stimuli is None or isinstance(stimuli, Stimuli | ImageStream)
        self.stimuli: Stimuli | ImageStream | None = stimuli if named else ImageStream(stimuli)  # type: ignore[assignment, arg-type]
        self.validation = validation
        self.options = complete(TaskOptions, options)
        self.values = None if values is None else _as_rows(values)
        self._check_stream()
        if self.options["loss"] == "mse" and values is None:
            refuse(f"{arg('loss', 'mse')} compares outputs with numbers: give {arg('values')}, one entry per image")
        if self.options["loss"] == "cross-entropy" and values is not None:
            refuse(f"{arg('values')} are numbers to predict; set {arg('loss', 'mse')}, or give a function")
        idle = [name for name in ("label_smoothing", "class_weights") if self.options[name]]
        if idle and self.options["loss"] != "cross-entropy":
            refuse(f"{quote(idle)} only apply to {arg('loss', 'cross-entropy')}; leave them out")

    def _check_stream(self) -> None:
        stream = isinstance(self.stimuli, ImageStream)
        if stream and (self.values is not None or self.options["loss"] == "mse"):
            refuse(
                "the images of a stream have no names, so they cannot be matched with values; give a function "
                "(logits, labels) as loss, whose labels are whole numbers, or use Stimuli"
            )
        if stream and not isinstance(self.validation, Stimuli) and self.validation:
            refuse(
                f"{arg('validation', self.validation)}: no part of a stream can be split off, because its images have "
                "no names and may be endless; give other images: Task(stream, validation=stimuli)"
            )
        if not stream and isinstance(self.validation, Stimuli):
            refuse("the validation of a task with named images is a list of their names, or a fraction; got Stimuli")

    def __repr__(self) -> str:
        if isinstance(self.stimuli, ImageStream):
            return self._shown(repr(self.stimuli), [])
        shown = "the images of the RDM" if self.stimuli is None else f"{len(self.stimuli)} images"
        kinds = (
            [] if self.stimuli is None or self.values is not None else [f"{len(self.stimuli.categories)} categories"]
        )
        return self._shown(shown, kinds)

    def _shown(self, shown: str, kinds: Sequence[str]) -> str:
        loss, weight = self.options["loss"], self.options["weight"]
        return f"Task({', '.join([shown, *kinds, loss if isinstance(loss, str) else 'own loss', f'weight {weight}'])})"

    def with_stimuli(self, stimuli: Stimuli) -> Task:
        """Return the task with these images, if it has none."""
        if self.stimuli is not None:
            return self
        return Task(stimuli, values=self.values, validation=self.validation, **self.options)

    def without_validation(self) -> Task:
        """Return the task with all of its images for training."""
        return Task(self.stimuli, values=self.values, **self.options)

    @property
    def layer(self) -> str | None:
        """Module whose output gives the logits; None for the network's output."""
        return self.options["layer"]

    def settings(self) -> dict[str, Any]:
        """Return options and values, for the settings of a run, which also have hashes of the images."""
        stream = {"stream": self.stimuli.settings()} if isinstance(self.stimuli, ImageStream) else {}
        return {**self.options, "values": self.values, "own_images": self.stimuli is not None, **stream}

    def weight(self, step: int) -> float:
        """Return the weight of the loss at a step."""
        weight = self.options["weight"]
        return weight(step) if callable(weight) else weight

    def check(self, stimuli: Stimuli, names: Sequence[str]) -> None:
        """Refuse a task whose `names` lack what its loss needs.

        Raises
        ------
        BrainrdlError
            If labels or values are missing, or a category of `class_weights` is unknown.
        """
        if self.values is not None:
            check_conditions(names, tuple(self.values), "the values of the task")
        elif self.options["loss"] == "cross-entropy" and not stimuli.categories:
            refuse("the task needs labels of the stimuli; give labels= to the stimuli, or use another loss")
        check_conditions(self.options["class_weights"] or (), stimuli.categories, "the categories of the task")

    def check_classes(self, stream: ImageStream) -> Stimuli | None:
        """Return the images for validation, with classes numbered as in the stream; None if there are none.

        Raises
        ------
        BrainrdlError
            If classes are not named where names are needed, or a category is unknown.
        """
        check_conditions(self.options["class_weights"] or (), stream.categories, "the classes of the stream")
        if not isinstance(self.validation, Stimuli):
            return None
        if self.validation.labels is None:
            self.check(self.validation, self.validation.names)
            return self.validation
        if not stream.categories:
            refuse(
                "the labels of the validation images can only be numbered as those of the stream if its classes have "
                f"names; give {arg('classes')} of the ImageStream"
            )
        return self.validation.with_classes(stream.categories)

    def wanted(self, batch: Batch) -> Tensor | None:
        """Return the targets of a batch: labels (n,), or values (n, n_values)."""
        if self.values is None:
            return batch.labels
        return torch.tensor([self.values[name] for name in batch.names], device=batch.images.device)

    def loss(
        self, logits: Float[Tensor, "n n_classes"] | None, batch: Batch, categories: Sequence[str] = ()
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch.

        Parameters
        ----------
        logits : Tensor, shape (n, n_classes), or None
            Output of the student.
        batch : Batch
            The images, with labels.
        categories : sequence of str
            Categories, in the order of their numbers.

        Returns
        -------
        Tensor, scalar

        Raises
        ------
        BrainrdlError
            If there are no logits or labels, or fewer logits than categories.
        """
        given, wanted = self.options["loss"], self.wanted(batch)
        if logits is None or (wanted is None and not callable(given)):
            missing = (
                "logits from the student (n, n_classes), as a tensor or a field `logits`"
                if logits is None
                else "labels of the stimuli"
            )
            refuse(f"the task compares logits with labels, but there are no {missing}")
        if wanted is None or callable(given):
            return _scalar(given(logits.float(), wanted))  # type: ignore[operator]
        if given == "mse":
            return _squared_error(logits.float(), wanted)
        if logits.shape[1] < len(categories):
            refuse(
                f"the student has {logits.shape[1]} logits for {len(categories)} categories; give its last layer more "
                "outputs"
            )
        weights = self._class_weights(categories, logits)
        smoothing = self.options["label_smoothing"]
        return functional.cross_entropy(logits.float(), wanted, weights, label_smoothing=smoothing)

    def _class_weights(self, categories: Sequence[str], logits: Tensor) -> Tensor | None:
        given = self.options["class_weights"]
        if given is None:
            return None
        known = [float(given.get(category, 1.0)) for category in categories]
        return torch.tensor(known + [1.0] * (logits.shape[1] - len(known)), device=logits.device)


def _as_rows(values: Mapping[str, float | Sequence[float]]) -> dict[str, list[float]]:
    rows = {
        str(name): torch.as_tensor(value, dtype=torch.float32).reshape(-1).tolist() for name, value in values.items()
    }
    lengths = {name: len(row) for name, row in rows.items()}
    if len(set(lengths.values())) > 1:
        refuse(f"the values of the task differ in length: {quote([f'{n}: {size}' for n, size in lengths.items()])}")
    return rows


def _squared_error(outputs: Tensor, values: Tensor) -> Tensor:
    if outputs.shape != values.shape:
        refuse(
            f"the student gives numbers of shape {tuple(outputs.shape)}, and the values of the task have shape "
            f"{tuple(values.shape)}"
        )
    return functional.mse_loss(outputs, values)


def _scalar(loss: object) -> Tensor:
    if not isinstance(loss, Tensor) or loss.ndim:
        shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
        refuse(f"the loss of the task must be a scalar tensor, got {shape}")
    return loss
