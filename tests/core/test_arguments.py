"""Arguments that are accepted mean something."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.core import arguments


@pytest.mark.parametrize("value", [3, np.int64(3), 3.0, np.float32(3)])
def test_whole_numbers(value):
    found = arguments.check_integer("n", value)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize("value", [2.7, "3", True, None, math.nan, math.inf, [3]])
def test_no_whole_numbers(value):
    with pytest.raises(TypeError, match="n must be an integer, got"):
        arguments.check_integer("n", value)


def test_integers_below_the_limit():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        arguments.check_integer("n", 0)
    assert arguments.check_integer("n", 0, at_least=0) == 0


def test_numbers():
    assert arguments.check_number("t", 0.0, at_least=0) == 0.0
    assert arguments.check_number("t", 1, at_most=1) == 1.0
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="t must be finite, got"):
            arguments.check_number("t", value)
    with pytest.raises(ValueError, match=r"above 0 and below 1, got 1\.0"):
        arguments.check_number("t", 1.0, above=0, below=1)
    with pytest.raises(TypeError, match="t must be a number, got '1'"):
        arguments.check_number("t", "1")


def test_choices():
    assert arguments.check_choice("kind", None, [None, "a"]) is None
    with pytest.raises(ValueError, match="kind must be one of 'a', 'b'; got 'c'"):
        arguments.check_choice("kind", "c", ["a", "b"])


def test_shapes():
    assert arguments.check_shape("s", tf.TensorShape([2, 3])) == (2, 3)
    assert arguments.check_shape("s", ()) == ()
    for value, error in (
        ("3", TypeError),
        (3, TypeError),
        ((3.7,), TypeError),
        ((None, 3), TypeError),
        ((0,), ValueError),
    ):
        with pytest.raises(error, match=r"^s"):
            arguments.check_shape("s", value)


@pytest.mark.parametrize(
    "value", [3, np.int64(3), 3.0, [3], (3,), np.array([3]), tf.TensorShape([3])]
)
def test_shapes_of_vectors(value):
    found = arguments.check_vector_shape("s", value)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        ("a", TypeError, "s must be an integer or a sequence of one, got 'a'"),
        ("abc", TypeError, "got 'abc'"),
        (True, TypeError, "got True"),
        (None, TypeError, "got None"),
        ([2.5], TypeError, r"got \[2.5\]"),
        ([[3]], TypeError, r"got \[\[3\]\]"),
        (np.array(3), TypeError, r"got array\(3\)"),
        (tf.TensorShape([None]), TypeError, "got TensorShape"),
        (0, ValueError, "s must be at least 1, got 0"),
        ([-1], ValueError, "s must be at least 1, got -1"),
        ((), ValueError, r"shape of a vector, got \(\), of 0 axes\.$"),
        ((4, 4, 3), ValueError, r"s must be D or \[D\].*got \(4, 4, 3\), of 3 axes\.$"),
    ],
)
def test_no_shapes_of_vectors(value, error, match):
    with pytest.raises(error, match=match):
        arguments.check_vector_shape("s", value)


def test_smallest_vectors_and_what_other_shapes_are_for():
    assert arguments.check_vector_shape("s", [2], at_least=2) == 2
    with pytest.raises(ValueError, match="at least 2, got 1"):
        arguments.check_vector_shape("s", [1], at_least=2)
    with pytest.raises(ValueError, match=r"of 2 axes\. Use another\."):
        arguments.check_vector_shape("s", (1, 2), instead="Use another.")


ONES = np.ones((2, 2), np.float32)
MASKED = np.ma.masked_array(ONES, mask=[[True, False], [False, False]])


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (None, ValueError, "x must be a tensor, got None"),
        (ONES + 1j, TypeError, "x must hold real numbers, got dtype complex64"),
        (tf.constant(ONES + 1j), TypeError, "complex64"),
        ([1.0, 1j], TypeError, "complex128"),
        ([tf.ones([]), 1j], TypeError, "complex128"),
        ([ONES, ONES + 1j], TypeError, "complex64"),
        (["a"], TypeError, "real numbers"),
        (np.array(["a"]), TypeError, "real numbers"),
        (np.array([None]), TypeError, "real numbers, got dtype object"),
        (MASKED, TypeError, "x has masked entries"),
        ([ONES, MASKED], TypeError, "masked"),
        ([1.0, np.ma.masked], TypeError, "masked"),
    ],
)
def test_no_real_numbers(value, error, match):
    with pytest.raises(error, match=match):
        arguments.check_real("x", value)


@pytest.mark.parametrize(
    "value",
    [
        1,
        [[1, 2], [3, 4.5]],
        True,
        ONES,
        ONES.astype("uint8"),
        ONES.astype("float16"),
        [ONES, ONES],
        [tf.ones([]), 2.0],
        tf.cast(ONES, tf.bfloat16),
        tf.Variable(ONES),
        np.ma.masked_array(ONES),
    ],
)
def test_real_numbers(value):
    arguments.check_real("x", value)
