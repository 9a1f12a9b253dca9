"""What `@ready` makes of a generator of bijectors."""

from __future__ import annotations

import inspect
import json
import pydoc
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.flows.support import ONE_OF_EACH, SURFACES
from tests.support import fast_and_slow, perturb
from tfp_flows import FlowModel, bijectors, citation, flows

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

tfd = tfp.distributions

ALL = {name: flow for name, flow in flows.READY.items() if ":" not in name}
# Those of surfaces take neither images nor options that would move data off them.
OURS = {name: flow for name, flow in ALL.items() if name not in SURFACES}
every = pytest.mark.parametrize("name", OURS)
# Whose networks see the context alone, if there is one.
AMORTIZED = ("gaussianization", "planar", "radial", "sylvester")


@flows.ready(flatten=True, takes=("conditioner_dtype",), base="logistic")
def spin(plan, *, layers: int = 2, gain: float | None = None, mirrored: bool = False):
    """Learned matrices.

    A longer text.

    Args:
      layers: int, number of matrices.
      gain: float, what the last of them
        is multiplied by.
      mirrored: bool, whether entries are reversed.
    """
    for _ in range(layers):
        yield bijectors.PLU(plan.size, seed=plan.seed(), dtype=plan.dtype)
    if mirrored:
        yield bijectors.Permutation("reverse", plan.size)
    if gain is not None:
        yield tfp.bijectors.Scale(np.asarray(gain, plan.dtype))


def test_a_flow_of_a_users_own_is_like_ours():
    flow = spin((2, 1, 2), gain=2, seed=3, bounds=(0, 4))
    assert flow.event_shape == (2, 1, 2)
    assert flow.distribution.event_shape == (4,)
    assert flow.name == "spin"
    assert flow.config["flow"] == "tests.ready.test_building:spin"
    assert flow.config["layers"] == 2
    again = flows.from_config(json.loads(json.dumps(flow.config)))
    x = tf.random.stateless_uniform([3, 2, 1, 2], [0, 1], 0, 4)
    np.testing.assert_array_equal(again.log_prob(x), flow.log_prob(x))
    z = flow.encode(x)
    expected = tf.reshape(x / 4 - 0.5, [3, 4])
    for b in flow.bijector.bijectors[-3:]:
        expected = b.inverse(expected)
    np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-6)
    assert type(flow.distribution.distribution).__name__ == "Logistic"


@flows.ready(
    name="tests:sized",
    at_least={"depth": 0},
    vectors={"width": 3, "depth": 1, "kind": "a"},
    images={"width": 5, "depth": 2},
)
def sized(plan, *, width: int | None = None, depth: int | None = None, kind=None):
    """Matrices of one size or another."""
    sized.found = (width, depth, kind)
    yield bijectors.ActNorm(plan.event_shape)


def test_defaults_on_vectors_and_on_images():
    flow = sized((2,))
    assert sized.found == (3, 1, "a")
    assert flow.config["width"] is None
    sized((2, 2, 1))
    assert sized.found == (5, 2, None)
    sized((2, 2, 1), depth=0, width=7)
    assert sized.found == (7, 0, None)
    with pytest.raises(ValueError, match="kind is for vectors; got kind='a'"):
        sized((2, 2, 1), kind="a")


def test_a_users_flow_saves_and_loads(tmp_path):
    model = FlowModel(spin((3,), layers=1, normalize=False))
    model.compile("adam")
    model.fit(np.random.default_rng(0).standard_normal((32, 3)), verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    x = tf.ones([2, 3])
    np.testing.assert_array_equal(loaded.flow.log_prob(x), model.flow.log_prob(x))
    assert loaded.flow.config == model.flow.config


def local(**options):
    @flows.ready(**options)
    def hidden(plan):
        """Nothing."""
        yield bijectors.ActNorm(plan.event_shape, dtype=plan.dtype)

    return hidden


def test_a_flow_that_cannot_be_found_again_is_an_error_at_save(tmp_path):
    model = FlowModel(local()((3,)))
    with pytest.raises(ValueError, match=r"inside a function.*@ready\(name="):
        model.save(tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="inside a function"):
        flows.from_config(model.flow.config)
    named = local(name="tests:hidden")((3,))
    assert flows.from_config(named.config).config == named.config
    with pytest.raises(ValueError, match="Import the module that defines it"):
        flows.from_config({"flow": "somewhere:else", "event_shape": [3]})


def test_names_do_not_collide_in_silence():
    local(name="tests:twice")
    # The same function, as after a reload.
    local(name="tests:twice")

    def other(plan):
        yield bijectors.ActNorm(plan.event_shape)

    with pytest.raises(ValueError, match=r"'tests:twice' is taken by .*hidden"):
        flows.ready(name="tests:twice")(other)
    with pytest.raises(ValueError, match="'nice' is taken"):
        flows.ready(name="nice")(other)


def no_generator(plan):
    return []


def positional(plan, layers: int = 2):
    yield


def shadowing(plan, *, seed: int = 2):
    yield


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (no_generator, "must yield bijectors"),
        (positional, r"need a `\*`"),
        (shadowing, "'seed'.*options of all flows"),
    ],
)
def test_functions_that_are_no_ready_flows(build, words):
    with pytest.raises(TypeError, match=words):
        flows.ready()(build)


def test_options_that_a_flow_does_not_take():
    @flows.ready(without=("bounds", "normalize"), normalize=False, name="test:bare")
    def bare(plan):
        """Nothing."""
        yield bijectors.Scaling([2])

    assert not {"bounds", "normalize"} & inspect.signature(bare).parameters.keys()
    assert "normalize:" not in bare.__doc__ and "base:" in bare.__doc__
    with pytest.raises(TypeError, match="bare has no option 'bounds'"):
        bare((2,), bounds=(0, 1))
    flow = flows.from_config(bare((2,), seed=0).config)
    assert [type(b) for b in flow.bijector.bijectors] == [bijectors.Scaling]


def test_signature_and_documentation():
    parameters = inspect.signature(spin).parameters
    assert list(parameters)[:4] == ["event_shape", "layers", "gain", "mirrored"]
    assert "conditioner_dtype" in parameters
    assert "context_mode" not in parameters
    assert parameters["base"].default == "logistic"
    assert parameters["layers"].annotation is int
    text = pydoc.render_doc(spin, renderer=pydoc.plaintext)
    for name in parameters:
        assert f"{name}: " in text, name
    assert "A longer text." in text
    assert "is multiplied by.\n" in text
    assert text.index("Learned") < text.index("  mirrored: ") < text.index("Returns:")


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_documented_once(name):
    flow = ALL[name]
    lines = [line.strip() for line in flow.__doc__.split("\n")]
    for option in inspect.signature(flow).parameters:
        described = [line for line in lines if line.startswith(f"{option}: ")]
        assert len(described) == 1, option
    assert flow.__doc__.count(f"flows.{name}(") >= 1, "an example"
    titles = [line for line in lines if line in ("Args:", "Returns:", "Raises:")]
    assert titles == ["Args:", "Returns:", "Raises:"]


@every
def test_unknown_options_list_the_known_ones(name):
    with pytest.raises(TypeError, match=f"{name} has no option 'wdith'.*seed, dtype"):
        OURS[name]((4, 4, 1), wdith=3)


@every
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"event_shape": "3"}, TypeError, "event_shape must be a sequence"),
        ({"event_shape": 3}, TypeError, "event_shape must be a sequence"),
        ({"event_shape": (3.7, 2, 1)}, TypeError, r"event_shape\[0\].*integer.*3.7"),
        ({"event_shape": (4, 4)}, ValueError, r"\(D,\).*\(H, W, C\).*\(4, 4\)"),
        ({"event_shape": ()}, ValueError, "event_shape"),
        ({"event_shape": (0, 4, 1)}, ValueError, r"event_shape\[0\].*at least 1"),
        (
            {"recompute_gradients": "yes"},
            ValueError,
            "recompute_gradients.*False, True",
        ),
        ({"normalize": "strongly"}, ValueError, "normalize.*'robust'.*strongly"),
        ({"normalize": True, "bounds": (0, 1)}, ValueError, "normalize.*bounds"),
        ({"bounds": (0, np.inf)}, ValueError, "bounds must be finite"),
        ({"bounds": (np.nan, 1)}, ValueError, "bounds must be finite"),
        ({"bounds": (1, 0)}, ValueError, "low below high"),
        ({"bounds": ([0, 0], 1)}, ValueError, "bounds must broadcast"),
        ({"bounds": "ab"}, TypeError, "bounds must be"),
        ({"bounds": 3}, TypeError, "bounds must be"),
        ({"bounds": (0, 1, 2)}, TypeError, "bounds must be"),
        ({"logit_margin": 0.1}, ValueError, "needs bounds"),
        ({"logit_margin": 0.5, "bounds": (0, 1)}, ValueError, "below 0.5"),
        ({"dequantize": "uniform"}, ValueError, r"bounds=\(0, K\)"),
        ({"context_shape": (None, 3)}, TypeError, r"context_shape\[0\]"),
        ({"context_shape": "3"}, TypeError, "context_shape"),
        ({"num_classes": 2.5}, TypeError, "num_classes"),
        ({"num_classes": 1}, ValueError, "num_classes must be at least 2"),
        ({"normalize_context": True}, ValueError, "for contexts of numbers"),
        (
            {"num_classes": 2, "normalize_context": True},
            ValueError,
            "for contexts of numbers",
        ),
        ({"seed": 1.5}, TypeError, "seed"),
        ({"dtype": "float16"}, ValueError, "'float32', 'float64'; got 'float16'"),
        ({"dtype": "single"}, ValueError, "dtype"),
        ({"name": 3}, TypeError, "name must be a string"),
    ],
)
def test_shared_options_that_are_wrong(name, options, error, words):
    with pytest.raises(error, match=words):
        OURS[name](**{"event_shape": (4, 4, 1), **options})


def test_arrays_and_zeros_are_no_numbers_of_layers():
    for flow in OURS.values():
        for option, parameter in inspect.signature(flow).parameters.items():
            if parameter.annotation not in (int, int | None) or option == "seed":
                continue
            for wrong, error in ((-1, ValueError), (2.5, TypeError), ("3", TypeError)):
                with pytest.raises(error, match=option):
                    flow((4, 4, 1), **{option: wrong})


# Every option means something, or is refused.

_SMALL = {"width": 4, "depth": 1, "layers": 2, "steps": 2, "heads": 2, "components": 2}
_OTHER = {
    "wavelets": True,
    "heads": 0,
    "columns": 3,
    "reflections": 1,
    "scale": "exp",
    "conv1x1": "dense",
    "spatial_every": 1,
    "order": "random",
    "linear": "qr",
    "spline": "cubic",
    "transformer": "bernstein",
    "parametrization": "householder",
    "activation": "leaky_relu",
    "explicit": "sampling",
    "log_det": "series",
    "solver": "dormand_prince",
    # That of the equation is hardly another one.
    "gradients": "none",
    "coefficient": 0.5,
    "max_log_scale": 0.01,
    "bound": 1.0,
    # An error of the networks, which it reaches.
    "dropout": 1.0,
}
# Another way to the same samples.
_WITHOUT_EFFECT = {"jacobi_tolerance"}
_IMAGES = ("glow", "jet", "real_nvp", "flow_plus_plus", "tarflow", "residual_flow")
_BRANCHES = [
    *((name, {"event_shape": (4,)}) for name in OURS if name not in ("glow", "jet")),
    *((name, {"event_shape": (4, 4, 2)}) for name in _IMAGES[:-1]),
    ("residual_flow", {"event_shape": (4, 4, 2), "layers": 1}),
    *((name, {"event_shape": (4,), "context_shape": (2,)}) for name in AMORTIZED),
]


def _look(flow, keywords):
    """Numbers that tell two flows apart, if anything does."""
    perturb(flow, 0.5)
    x = tf.random.stateless_normal([3, *flow.event_shape], [0, 1])
    shapes = [v.shape.as_list() for v in flow.trainable_variables]
    training = {"training": True, "seed": 1} if "training" in flow.keywords else {}
    training = {k: v for k, v in training.items() if k in flow.keywords}
    densities = [
        flow.log_prob(x, **keywords, **t).numpy().tolist() for t in ({}, training)
    ]
    layers = [getattr(m, "keras_layer", None) for m in flow.submodules]
    losses = [float(loss) for layer in layers if layer for loss in layer.losses]
    return [shapes, *densities, losses]


# Two flows take several seconds.
@pytest.mark.parametrize(
    ("name", "given"),
    [
        pytest.param(
            *branch,
            marks=pytest.mark.slow
            if branch[0] in ("residual_flow", "flow_plus_plus")
            else (),
        )
        for branch in _BRANCHES
    ],
)
def test_every_option_means_something(name, given):
    flow, is_image = OURS[name], len(given["event_shape"]) == 3
    signature = inspect.signature(flow).parameters
    small = {k: v for k, v in _SMALL.items() if k in signature}
    if name in AMORTIZED and "context_shape" not in given:
        small = {k: v for k, v in small.items() if k not in ("width", "depth")}
    if not is_image:
        small.pop("heads", None)
    options = {"seed": 0, "normalize": False, **small, **given}
    keywords = {}
    if "context_shape" in given:
        keywords["context"] = tf.random.stateless_normal([3, 2], [2, 3])
    others = {**_OTHER, "levels": 2 if name == "glow" else 1}
    others["batch_norm"] = not (is_image and name == "real_nvp")
    before = _look(flow(**options), keywords)
    shared = inspect.signature(flows.Plan).parameters.keys() - others
    for option, parameter in signature.items():
        if option in {*shared, *_WITHOUT_EFFECT, "event_shape", "context_mode"}:
            continue
        if option in others:
            other = others[option]
        elif parameter.annotation in (bool, bool | None):
            other = not parameter.default
        else:
            other = (options.get(option) or parameter.default or 2) + 1
        assert other != options.get(option, parameter.default), option
        try:
            after = _look(flow(**{**options, option: other}), keywords)
        except ValueError as error:
            assert option in str(error), option
        else:
            assert after != before, f"{option} means nothing"


def test_wavelets_take_the_place_of_squeezes():
    options = {"layers": 1, "width": 4, "depth": 1, "seed": 0}
    kinds = {}
    for wavelets in (False, True):
        flow = flows.real_nvp((8, 8, 1), wavelets=wavelets, **options)
        names = [type(part).__name__ for part in flow.submodules]
        kinds[wavelets] = names.count("Squeeze"), names.count("Haar")
    assert kinds == {False: (2, 0), True: (0, 2)}
    assert "ardizzone2019guided" in citation(flow)
    again = flows.from_config(flow.config)
    x = tf.random.stateless_normal([3, 8, 8, 1], [0, 1])
    np.testing.assert_array_equal(again.log_prob(x), flow.log_prob(x))
    assert flows.real_nvp((2,), wavelets=False, **options).config["wavelets"] is False


def test_options_that_are_for_something_else_are_refused():
    for build, options, words in (
        (flows.real_nvp, {"order": "nonsense"}, "order is for vectors"),
        (flows.planar, {"width": 4}, "width is for the networks that see a context"),
        (flows.radial, {"depth": 4}, "depth is for"),
        (
            flows.sylvester,
            {"parametrization": "triangular", "columns": 2},
            "columns is for",
        ),
        (flows.sylvester, {"reflections": 2}, "reflections"),
        (flows.glow, {"context_mode": "film"}, "context_mode is for a flow with"),
    ):
        with pytest.raises(ValueError, match=words):
            build((4, 4, 1), **options)
    for build, options, words in (
        (flows.flow_plus_plus, {"heads": 2}, "heads is for"),
        (flows.real_nvp, {"levels": 2}, "levels is for images"),
        (flows.residual_flow, {"levels": 2}, "levels is for images"),
        (flows.residual_flow, {"wavelets": True}, "wavelets is for images"),
        (
            flows.neural_spline_flow,
            {"autoregressive": True, "linear": "plu"},
            "linear is for",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            build((1,) if "linear" in options else (4,), **options)


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1)])
@pytest.mark.parametrize(
    "name", ["nice", "real_nvp", "flow_plus_plus", "neural_spline_flow"]
)
def test_couplings_of_a_single_feature_name_the_kind_that_works(name, shape):
    call = f"flows.neural_spline_flow({shape}, autoregressive=True)"
    with pytest.raises(ValueError, match=re.escape(call)):
        OURS[name](shape)
    flow = eval(call[:-1] + ", width=4, depth=1, layers=1)")
    assert flow.sample(2, seed=0).shape == (2, *shape)


def test_images_that_cannot_be_squeezed_are_no_single_number():
    for build in (flows.real_nvp, flows.glow, flows.flow_plus_plus):
        with pytest.raises(ValueError, match=r"(?i)pad or crop") as error:
            build((1, 1, 3))
        assert "single" not in str(error.value)


@pytest.mark.parametrize("build", [flows.maf, flows.iaf])
def test_affine_autoregressions_of_a_single_feature_warn(build):
    with pytest.warns(UserWarning, match="only shift and scale.*neural_spline_flow"):
        build((1,), width=4)


# Seeds and names.


def _start(small, **options):
    values = [np.asarray(v) for v in small.make(0, **options).variables]
    return np.concatenate([v.astype(float).ravel() for v in values])


@pytest.mark.parametrize(
    "name", fast_and_slow(ONE_OF_EACH, "real_nvp", "neural_spline_flow", "sylvester")
)
def test_seeds_of_keras_and_of_any_size(name):
    small = ONE_OF_EACH[name]

    def drawn(seed):
        keras.utils.set_random_seed(seed)
        return _start(small, seed=None)

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert np.abs(drawn(1) - drawn(2)).max() > 1e-3
    starts = [
        _start(small, seed=s) for s in (-1, 1, 2**256 + 1, np.int64(2**40), -(2**70))
    ]
    for i, start in enumerate(starts):
        for other in starts[:i]:
            assert np.abs(start - other).max() > 1e-3


@every
def test_names(name):
    small = ONE_OF_EACH[name]
    flow = small.make(0, name="posterior")
    assert flow.name == "posterior"
    assert flow.bijector.name == "posterior_chain"
    assert flows.from_config(flow.config).name == "posterior"
    assert small.make(0).name == name


def test_two_of_a_kind_in_a_joint_distribution():
    a, b = (flows.maf((2,), layers=1, width=4, normalize=False, name=n) for n in "ab")
    joint = tfd.JointDistributionSequential([a, b])
    assert joint._flat_resolve_names() == ("a", "b")
    x = joint.sample(3, seed=1)
    np.testing.assert_allclose(
        joint.log_prob(x), a.log_prob(x[0]) + b.log_prob(x[1]), rtol=1e-5
    )
