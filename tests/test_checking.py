"""`check_bijector`: right bijectors pass, and each kind of wrong one is caught."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows
from tests.bijectors.cases import affine, chain
from tests.support import perturb
from tfp_flows import bijectors as B
from tfp_flows import check_bijector, masks

tfb = tfp.bijectors

MATRIX = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.0, 1.0]])


def points(*shape, seed=0, dtype="float64"):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)


class Linear(B.JointBijector):
    """y = M x, with an error of some kind."""

    def __init__(self, wrong=None, matrix=MATRIX, variables=()):
        parameters = dict(locals())
        super().__init__(
            forward_min_event_ndims=1,
            input_event_shape=[3],
            dtype="float64",
            parameters=parameters,
            name="linear",
        )
        self._wrong, self._matrix = wrong, tf.constant(matrix)
        self._scale = self._add_variable("scale", tf.constant(1.0, tf.float64))
        self._unused = [
            self._add_variable(name, tf.ones([2], tf.float64)) for name in variables
        ]

    def _log_det(self):
        return tf.linalg.slogdet(self._matrix)[1] + 3 * tf.math.log(self._scale)

    def _forward_and_log_det(self, x):
        y = self._scale * tf.linalg.matvec(self._matrix, x)
        log_det = self._log_det()
        if self._wrong == "forward_log_det":
            log_det += 1e-3
        if self._wrong == "dtype":
            log_det = tf.cast(log_det, tf.float32)
        if self._wrong == "nan":
            y += tf.where(x > 1e6, x, np.nan)
        return y, log_det

    def _inverse_and_log_det(self, y):
        scale = tf.stop_gradient(self._scale) if self._wrong == "stop" else self._scale
        x = tf.linalg.matvec(tf.linalg.inv(self._matrix), y) / scale
        log_det = -self._log_det()
        if self._wrong == "stop":
            log_det = tf.stop_gradient(log_det)
        if self._wrong == "inverse":
            x += 1e-3 * tf.sin(x)
        if self._wrong == "inverse_log_det":
            log_det = -log_det
        return x, log_det


def test_measures_what_numpy_says():
    report = check_bijector(Linear(), points(5, 3))
    assert report.ok and report.problems == ()
    report.raise_if_bad()
    singular = np.linalg.svd(MATRIX, compute_uv=False)
    assert report.forward_lipschitz == pytest.approx(singular[0])
    assert report.inverse_lipschitz == pytest.approx(1 / singular[-1])
    assert report.condition_number == pytest.approx(singular[0] / singular[-1])
    assert (report.events, report.dtype) == (5, "float64")
    for error in (
        report.forward_round_trip,
        report.inverse_round_trip,
        report.forward_log_det,
        report.inverse_log_det,
        report.log_det_sum,
    ):
        assert 0 <= error < 1e-14


@pytest.mark.parametrize(
    ("wrong", "errors"),
    [
        ("forward_log_det", {"forward_log_det", "log_det_sum"}),
        ("inverse_log_det", {"inverse_log_det", "log_det_sum"}),
        ("inverse", {"forward_round_trip", "inverse_round_trip", "inverse_log_det"}),
    ],
)
def test_wrong_log_det_and_wrong_inverse(wrong, errors):
    report = check_bijector(Linear(wrong), points(4, 3))
    every = (
        "forward_round_trip",
        "inverse_round_trip",
        "forward_log_det",
        "inverse_log_det",
        "log_det_sum",
    )
    assert {e for e in every if getattr(report, e) > 1e-5} == errors
    assert len(report.problems) == len(errors)
    with pytest.raises(AssertionError, match="exceeds 1e-08"):
        report.raise_if_bad()
    loose = check_bijector(Linear(wrong), points(4, 3), tolerance=10)
    assert loose.ok


def test_the_size_of_a_wrong_log_det():
    report = check_bijector(Linear("forward_log_det"), points(4, 3))
    truth = np.linalg.slogdet(MATRIX)[1]
    assert report.forward_log_det == pytest.approx(1e-3 / (1 + truth), rel=1e-6)


def test_an_unused_variable_and_one_that_a_direction_forgets():
    report = check_bijector(Linear(variables=("lost", "idle")), points(4, 3))
    assert report.no_gradient == ("lost (2,)", "idle (2,)")
    assert [p for p in report.problems if "lost" in p] == ["no gradient: lost (2,)"]
    report = check_bijector(Linear("stop"), points(4, 3))
    assert report.no_gradient == ("scale () (inverse)",)
    assert not report.ok


def test_a_gradient_that_is_zero_is_told_but_no_problem():
    bijector = affine(masks.half(4), "float64")
    report = check_bijector(bijector, points(3, 4))
    hidden = [v for v in bijector.trainable_variables if "hidden" in v.name]
    names = [f"{v.name.split(':')[0]} {v.shape}" for v in hidden]
    assert sorted(report.zero_gradient) == sorted(names) != []
    assert report.ok
    perturb(bijector)
    assert check_bijector(bijector, points(3, 4)).zero_gradient == ()


def test_not_finite_and_wrong_dtype():
    report = check_bijector(Linear("nan"), points(4, 3))
    assert "forward value" in report.not_finite
    assert np.isnan(report.forward_round_trip)
    assert "forward, then inverse: nan exceeds 1e-08" in report.problems
    report = check_bijector(Linear("dtype"), points(4, 3))
    assert "forward log-det has dtype float32, not float64" in report.problems


def test_ill_conditioned():
    singular = np.diag([1.0, 1e-3, 1e3])
    report = check_bijector(Linear(matrix=singular), points(2, 3))
    assert report.condition_number == pytest.approx(1e6)
    assert report.inverse_lipschitz == pytest.approx(1e3)


class WrongInverse(tfb.Bijector):
    """A bijector of TFP's kind, whose cache hides that its inverse is wrong."""

    def __init__(self):
        super().__init__(forward_min_event_ndims=0, parameters={}, name="wrong")

    def _forward(self, x):
        return tf.sinh(x)

    def _inverse(self, y):
        return tf.asinh(y) * 1.001

    def _forward_log_det_jacobian(self, x):
        return tf.math.log(tf.cosh(x))


def test_tfps_cache_hides_nothing():
    bijector, x = WrongInverse(), points(4, 2)
    assert bijector.inverse(bijector.forward(x)) is x
    report = check_bijector(bijector, x)
    assert report.forward_round_trip > 1e-4 and report.inverse_round_trip > 1e-4
    assert report.forward_log_det < 1e-12 and report.inverse_log_det > 1e-5


class OneWay(tfb.Bijector):
    def __init__(self):
        super().__init__(forward_min_event_ndims=0, parameters={}, name="one_way")

    def _forward(self, x):
        return x + tf.sin(x) / 2

    def _forward_log_det_jacobian(self, x):
        return tf.math.log(1 + tf.cos(x) / 2)


def test_a_direction_that_is_not_implemented():
    x = points(6, 2)
    report = check_bijector(OneWay(), x)
    assert report.ok and report.forward_log_det < 1e-12
    assert report.forward_round_trip is report.inverse_log_det is None
    steepest = 1 / np.min(1 + np.cos(x) / 2)
    assert report.inverse_lipschitz == pytest.approx(steepest)
    assert "not measured" in str(report)
    with pytest.raises(NotImplementedError):
        check_bijector(tfb.Invert(OneWay()), points(6, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda d: tfb.Exp(), ()),
        (lambda d: tfb.Exp(), (5,)),
        (lambda d: tfb.Softplus(), (2, 5)),
        (lambda d: tfb.Scale(points(3, dtype=d)), (4, 3)),
        (lambda d: tfb.Scale(points(2, 1, dtype=d)), (3,)),
        (lambda d: tfb.ScaleMatvecTriL(tf.eye(3, dtype=d) * 2.0), (4, 3)),
        (lambda d: tfb.Reshape([2, 3], [6]), (4, 6)),
        (lambda d: B.Squeeze(2), (1, 2, 4, 3)),
        (lambda d: tfb.Invert(B.Squeeze(2)), (2, 1, 1, 1, 4)),
        (lambda d: tfb.Chain([tfb.Tanh(), B.Permutation("reverse", 3)]), (2, 3)),
    ],
)
def test_other_bijectors_and_shapes(build, shape, dtype):
    bijector = build(dtype)
    report = check_bijector(bijector, points(*shape, dtype=dtype))
    report.raise_if_bad()
    assert report.dtype == dtype
    assert report.forward_log_det is not None


def test_events_and_their_rank():
    x = points(2, 3, 4)
    assert check_bijector(tfb.Exp(), x).shapes == ((3, 4), (3, 4))
    assert check_bijector(tfb.Exp(), x, event_ndims=1).events == 6
    reshape = check_bijector(tfb.Reshape([4, 3], [12]), points(5, 12))
    assert reshape.shapes == ((12,), (4, 3)) and reshape.events == 5


def test_sizes_that_differ_have_no_determinant():
    report = check_bijector(tfb.FillTriangular(), points(2, 3))
    assert report.forward_log_det is report.inverse_log_det is None
    assert report.forward_round_trip == 0
    assert report.forward_lipschitz == pytest.approx(1)


def test_context_and_its_batch():
    bijector = chain("float64", (3,))
    perturb(bijector)
    x, context = points(2, 4), points(5, 1, 3, seed=1)
    report = check_bijector(bijector, x, context)
    report.raise_if_bad()
    assert report.events == 10
    inside = tfb.Chain([bijector])
    again = check_bijector(inside, x, **{bijector.name: {"context": context}})
    assert again.condition_number == pytest.approx(report.condition_number)
    assert again.events == 10
    with pytest.raises(ValueError, match="context is required"):
        check_bijector(bijector, x)


def test_a_log_det_that_depends_on_the_batch_shape_wrongly():
    class Odd(WrongInverse):
        def _call_forward_log_det_jacobian(self, x, *args, **kwargs):
            return tf.zeros([7], x.dtype)

    report = check_bijector(Odd(), points(4, 2))
    assert any("log-det has shape (7,)" in p for p in report.problems)


def test_the_table_is_aligned_and_short():
    text = str(check_bijector(Linear(variables=list("abcde")), points(4, 3)))
    head, *table = text.splitlines()
    assert head == "linear (Linear): [3] -> [3], float64, 4 event(s)"
    rows = table[: table.index("problems:")]
    columns = {len(row) - len(row[2:].split("  ", 1)[1].lstrip()) for row in rows}
    assert len(columns) == 1
    assert "a (2,), b (2,) and 3 more" in text
    assert max(map(len, text.splitlines())) < 88
    assert str(check_bijector(Linear(), points(1, 3))).endswith("ok (tolerance 1e-08)")


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (
            TypeError,
            "tfb.Bijector, got MLP",
            lambda: (tfp_flows.networks.MLP(2), [1.0]),
        ),
        (TypeError, "several tensors", lambda: (tfb.Split(2), points(2, 4))),
        (TypeError, "floating, got dtype int32", lambda: (tfb.Exp(), [1, 2])),
        (ValueError, "at least one event", lambda: (tfb.Exp(), points(0, 3))),
        (ValueError, "event_ndims .* got 0", lambda: (Linear(), points(2, 3), None, 0)),
        (
            ValueError,
            "event_ndims .* got 4",
            lambda: (tfb.Exp(), points(2, 3), None, 4),
        ),
    ],
)
def test_errors(error, words, call):
    bijector, x, *rest = call()
    options = {"event_ndims": rest[1]} if rest else {}
    with pytest.raises(error, match=words):
        check_bijector(bijector, x, **options)


def test_not_inside_a_function():
    with pytest.raises(RuntimeError, match="eagerly"):
        tf.function(lambda x: check_bijector(tfb.Exp(), x))(points(2))
