"""Refusals quote what came, say where, and name what is nearest."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch

from brainrdl._core import errors, tensor_checks
from brainrdl._core.errors import BrainrdlError


def test_error_is_a_value_error_so_that_callers_need_not_know_ours() -> None:
    with pytest.raises(ValueError, match="what came"):
        errors.refuse("what came")


def test_option_is_given_back_or_refused_with_the_nearest_and_all_known() -> None:
    assert errors.check_option("corr", ["corr", "cosine"], "similarity") == "corr"
    message = "similarity 'cor' is not known; nearest: 'corr' (known: corr, tau-a)"
    with pytest.raises(BrainrdlError, match=re.escape(message)):
        errors.check_option("cor", ["corr", "tau-a"], "similarity")


@pytest.mark.parametrize("value", [2.5, 2.0, "2", True, None, np.float64(2), -1, 10, np.int64(10)])
def test_what_is_no_whole_number_within_bounds_is_refused(value: object) -> None:
    message = f"steps must be a whole number, at least 0 and below 10, got {value!r}"
    with pytest.raises(BrainrdlError, match=re.escape(message)):
        errors.check_whole(value, "steps", 0, 10)


@pytest.mark.parametrize("value", [0, 9, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_numpy_are_whole_numbers(value: object) -> None:
    errors.check_whole(value, "steps", 0, 10)


@pytest.mark.parametrize("value", ["1", True, None, float("nan"), float("inf"), 0, -1.0])
def test_what_is_no_finite_number_above_a_bound_is_refused(value: object) -> None:
    with pytest.raises(BrainrdlError, match=re.escape(f"lr must be a finite number above 0, got {value!r}")):
        errors.check_number(value, "lr", above=0)


def test_a_bound_may_be_reached() -> None:
    for value in (0, 1e-3, np.float32(2), np.int64(1)):
        errors.check_number(value, "weight", at_least=0)
    with pytest.raises(BrainrdlError, match=r"weight must be a finite number of at least 0, got -0\.1"):
        errors.check_number(-0.1, "weight", at_least=0)


def test_duplicates_are_named_once_each() -> None:
    errors.check_unique(["a", "b"], "the list")
    with pytest.raises(BrainrdlError, match=r"names \['a'\] occur more than once in the list"):
        errors.check_unique(["a", "b", "a", "a"], "the list")


def test_a_condition_that_is_asked_for_itself_is_not_offered_for_another() -> None:
    with pytest.raises(BrainrdlError, match=r"are not in teacher 'V1' \(2 conditions\); nearest: 'face_70'$"):
        errors.check_conditions(["face_07", "face_08"], ["face_08", "face_70"], "teacher 'V1'")


def test_names_that_are_no_unicode_are_refused() -> None:
    errors.check_text(["cat", "猫", "b\u00e4r"], "the stimuli")
    with pytest.raises(BrainrdlError, match=r"names \['b\\udce4r'\] of the stimuli are not valid Unicode; rename"):
        errors.check_text(["cat", "b\udce4r"], "the stimuli")


def test_missing_conditions_are_counted_and_the_nearest_named() -> None:
    errors.check_conditions(["a"], ["b", "a"], "teacher 'V1'")
    many = [f"face_{i:02d}" for i in range(10, 20)]
    with pytest.raises(
        BrainrdlError, match=r"'face_14', and 5 more\] are not in teacher 'V1' \(1 .*nearest: 'face_01'"
    ):
        errors.check_conditions(many, ["face_01"], "teacher 'V1'")


def test_last_dimensions_must_agree_where_broadcasting_would_be_silent() -> None:
    tensor_checks.check_same_length(torch.zeros(2, 6), torch.zeros(6), "RDMs")
    with pytest.raises(BrainrdlError, match=r"RDMs must have the same number of pairs, got shapes \(6,\) and \(1,\)"):
        tensor_checks.check_same_length(torch.zeros(6), torch.zeros(1), "RDMs")


def test_too_few_dimensions_are_refused_with_the_shape_that_is_wanted() -> None:
    tensor_checks.check_ndim(torch.zeros(2, 3), 2, "patterns", "(n, c)")
    with pytest.raises(BrainrdlError, match=r"patterns must have shape \(n, c\), got \(3,\)"):
        tensor_checks.check_ndim(torch.zeros(3), 2, "patterns", "(n, c)")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_counted(bad: float) -> None:
    tensor_checks.check_finite(torch.ones(3), "layer 'x'")
    with pytest.raises(BrainrdlError, match="1 of 3 values are NaN or Inf in layer 'x'"):
        tensor_checks.check_finite(torch.tensor([1.0, bad, 2.0]), "layer 'x'")


def _dashed(argument: errors.Argument) -> str | None:
    return f"--{argument.name} {argument.value}".strip() if argument.name in ("names", "axes") else None


def _refusal() -> BrainrdlError:
    advice = f"give {errors.read_arg('axes', ['first', 2])}, {errors.arg('names')} or {errors.arg('steps', 5)}"
    return BrainrdlError(f"{errors.named('by')} 'x' is not known; {advice}", place="file 'it.h5'")


def test_an_error_knows_the_argument_that_it_is_about_and_those_that_it_advises() -> None:
    error = _refusal()
    assert (error.argument, error.advised, error.place) == ("by", ("axes", "names", "steps"), "file 'it.h5'")
    assert BrainrdlError("no argument").argument is None


def test_arguments_are_spelled_as_in_python_unless_a_front_end_knows_better() -> None:
    error = _refusal()
    told = "file 'it.h5': by 'x' is not known; give axes=['first', 2], names= or steps=5"
    assert (str(error), repr(error)) == (told, f"BrainrdlError({told!r})")
    expected = "file 'it.h5': by 'x' is not known; give --axes ['first', 2], --names or steps=5"
    assert error.render(_dashed) == expected
    assert str(error) == told  # rendering binds nothing


def test_the_innermost_front_end_and_place_win() -> None:
    outer, inner = {"steps": "outer.steps", "names": "outer.names"}, {"names": "inner.names"}
    with pytest.raises(BrainrdlError) as refused:  # noqa: SIM117
        with errors.about("outer", lambda a: outer.get(a.name)), errors.about("inner", lambda a: inner.get(a.name)):
            errors.refuse(f"{errors.arg('steps')} {errors.arg('names')} {errors.arg('lr')}")
    assert str(refused.value) == "inner: outer.steps inner.names lr="


def test_other_errors_pass_a_boundary_as_they_are() -> None:
    with pytest.raises(KeyError, match="k"), errors.about("file 'it.h5'"):
        raise KeyError("k")


def test_a_quoted_value_cannot_be_taken_for_a_marker() -> None:
    hostile = "\ue000steps\ue0015\ue001\ue001a\ue001\ue002"
    assert str(BrainrdlError(f"got {hostile!r}")) == f"got {hostile!r}"
    assert str(BrainrdlError(f"use {errors.arg('axes', hostile)}")) == f"use axes={hostile!r}"


def test_an_error_comes_back_whole_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(_refusal()))
    assert (str(error), error.advised) == (str(_refusal()), ("axes", "names", "steps"))


def test_a_check_marks_the_name_of_an_argument_but_not_other_words() -> None:
    for what, argument in (("steps", "steps"), ("seed of the split", None)):
        with pytest.raises(BrainrdlError, match=f"{what} must be a whole number") as refused:
            errors.check_whole(-1, what, 0)
        assert refused.value.argument == argument
