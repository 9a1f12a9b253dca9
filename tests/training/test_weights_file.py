"""Weights of another architecture, and files that are none."""

from __future__ import annotations

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import fast_and_slow, perturb
from tests.training.support import assert_same, image, points, values, vector
from tfp_flows import (
    Flow,
    FlowModel,
    bijectors,
    distributions,
    flows,
    masks,
    networks,
    transformers,
)
from tfp_flows.training import ArchitectureMismatch, load_model, weights_file
from tfp_flows.training.architecture import Architecture

tfb = tfp.bijectors
tfd = tfp.distributions

HALF = masks.half(4)


def by_hand(mask=HALF, permutation=(1, 0, 3, 2), scale="tanh", bound=None, order=1):
    """A flow without a configuration; its variables have the same shapes always."""
    network = networks.MLP(4, (8,), seed=1)
    chain = [
        bijectors.AffineCoupling(mask, network, scale=scale, max_log_scale=bound),
        bijectors.Permutation(permutation),
    ]
    return Flow(distributions.standard_normal((4,)), bijectors.Chain(chain[::order]))


def nice(order="alternating"):
    return flows.nice((4,), layers=2, depth=1, width=8, order=order, seed=0)


def alone(bijector):
    """A flow of one bijector of vectors of size 4."""
    return Flow(distributions.standard_normal((4,)), bijector)


def spline(order="natural"):
    made = networks.MADE(4, 11, (8,), order=order, seed=1)
    transformer = transformers.RationalQuadratic(4)
    return alone(bijectors.MaskedAutoregressive(made, transformer))


# What the weights are of, and what they are loaded into.
OTHERS = {
    "width": (vector, lambda: vector(width=9)),
    "more_couplings": (vector, lambda: vector(layers=3)),
    "fewer_couplings": (vector, lambda: vector(layers=1)),
    "scale_map": (vector, lambda: vector(scale="exp")),
    "max_log_scale": (vector, lambda: vector(max_log_scale=1.5)),
    "real_nvp_order": (vector, lambda: vector(order="random")),
    "batch_norm": (vector, lambda: vector(batch_norm=True)),
    "base": (vector, lambda: vector(base="logistic")),
    "bounds": (vector, lambda: vector(bounds=(-9, 9))),
    "dtype": (vector, lambda: vector(dtype="float64")),
    "context_mode": (
        lambda: vector(num_classes=3),
        lambda: vector(num_classes=3, context_mode="film"),
    ),
    "conv1x1": (image, lambda: image(conv1x1="dense")),
    "nice_order": (nice, lambda: nice("reverse")),
    "another_flow": (vector, nice),
    "mask": (by_hand, lambda: by_hand(mask=masks.alternating(4))),
    "mask_inverted": (by_hand, lambda: by_hand(mask=~HALF)),
    "permutation": (by_hand, lambda: by_hand(permutation=(3, 2, 1, 0))),
    "scale_map_by_hand": (by_hand, lambda: by_hand(scale="exp")),
    "bound_by_hand": (by_hand, lambda: by_hand(bound=1.0)),
    "order": (by_hand, lambda: by_hand(order=-1)),
    "order_of_entries": (spline, lambda: spline(order="reverse")),
    "elementwise": (
        lambda: alone(bijectors.Elementwise(transformers.RationalQuadratic(4), (4,))),
        lambda: alone(bijectors.Elementwise(transformers.LogisticMixture(3), (4,))),
    ),
    "inverse_autoregressive": (
        lambda: alone(bijectors.MaskedAutoregressive(networks.MADE(4, 2, (8,)))),
        lambda: alone(bijectors.InverseAutoregressive(networks.MADE(4, 2, (8,)))),
    ),
    "planar_activation": (
        lambda: alone(bijectors.Planar(4)),
        lambda: alone(bijectors.Planar(4, "leaky_relu")),
    ),
    "sylvester_form": (
        lambda: alone(bijectors.Sylvester(4, parametrization="orthogonal")),
        lambda: alone(
            bijectors.Sylvester(4, parametrization="householder", reflections=4)
        ),
    ),
}


@pytest.fixture(params=["weights", "shards", "checkpoint", "keras"])
def route(request):
    return request.param


def save(model, route, directory):
    """Saves weights; returns what loads them into another model."""
    if route == "checkpoint":
        path = tf.train.Checkpoint(model=model).save(str(directory / "model"))
        return lambda other: tf.train.Checkpoint(model=other).restore(path)
    if route == "keras":
        path = directory / "model.keras"
        model.save(path)
    elif route == "shards":
        path = directory / "model.weights.json"
        model.save_weights(path, max_shard_size=1.5e-6)
    else:
        path = directory / "model.weights.h5"
        model.save_weights(path)
    return lambda other: other.load_weights(path)


def assert_refused(load, flow, error, match):
    """Loading fails, and changes nothing."""
    before = values(perturb(flow))
    with pytest.raises(error, match=match):
        load(FlowModel(flow))
    assert_same(before, values(flow))


@pytest.mark.filterwarnings("error:Skipping variable")
@pytest.mark.parametrize(
    "name",
    fast_and_slow(
        OTHERS,
        *("width", "more_couplings", "scale_map", "real_nvp_order", "batch_norm"),
        *("base", "bounds", "context_mode", "nice_order", "another_flow", "mask"),
        *("order", "order_of_entries", "dtype", "planar_activation"),
    ),
)
def test_another_architecture_is_refused(name, tmp_path):
    source, target = (FlowModel(build()) for build in OTHERS[name])
    perturb(source.flow, seed=3)
    for route in ("weights", "checkpoint"):
        load = save(source, route, tmp_path)
        assert_refused(load, target.flow, ArchitectureMismatch, "another architecture")


def test_every_route_refuses(route, tmp_path):
    """The scale map is not seen in the shapes of variables."""
    load = save(FlowModel(vector()), route, tmp_path)
    match = "has scale='tanh' where this flow has scale='exp'"
    assert_refused(load, vector(scale="exp"), ArchitectureMismatch, match)
    match = "has layers=2 where this flow has layers=3"
    assert_refused(load, vector(layers=3), ArchitectureMismatch, match)


def test_every_route_takes_the_same_architecture(route, tmp_path):
    """The seed, names, and what else was built may differ."""
    source = FlowModel(perturb(vector(order="random")), name="first")
    load = save(source, route, tmp_path)
    other = FlowModel(vector(order="random", seed=9), name="second")
    load(other)
    assert_same(values(source.flow), values(other.flow))
    x = points()
    np.testing.assert_array_equal(source.flow.log_prob(x), other.flow.log_prob(x))


def test_distributions_of_tfp_are_told_apart(tmp_path):
    def build(bijector):
        base = distributions.standard_normal((2,))
        return tfd.TransformedDistribution(base, bijector(tf.Variable([1.0, 2.0])))

    for route in ("weights", "checkpoint"):
        load = save(FlowModel(build(tfb.Scale)), route, tmp_path)
        assert_refused(
            load, build(tfb.Shift), ArchitectureMismatch, "has Scale .* has Shift"
        )


# Files that hold no weights of a flow.


def foreign():
    layers = [keras.layers.Input((2,)), keras.layers.Dense(1)]
    return keras.Sequential(layers)


def test_foreign_weights_are_refused(route, tmp_path):
    model = foreign()
    if route == "checkpoint":
        path = tf.train.Checkpoint(model=model).save(str(tmp_path / "model"))

        def load(other):
            # TensorFlow's own check: a checkpoint may be of anything.
            status = tf.train.Checkpoint(model=other).restore(path)
            status.assert_existing_objects_matched()

        assert_refused(load, vector(), AssertionError, "not bound to checkpointed")
        return
    load = save(model, route, tmp_path)
    assert_refused(load, vector(), ArchitectureMismatch, "no weights of a FlowModel")


@pytest.mark.parametrize("content", ["garbage", "truncated", "empty"])
@pytest.mark.parametrize("route", ["weights", "shards", "keras"])
def test_unreadable_files_are_refused(route, content, tmp_path):
    load = save(FlowModel(vector()), route, tmp_path)
    for path in tmp_path.iterdir():
        whole = path.read_bytes()
        path.write_bytes(
            {
                "garbage": b"garbage" * 1000,
                "truncated": whole[: len(whole) // 2],
                "empty": b"",
            }[content]
        )
    assert_refused(load, vector(), OSError, r"model\S* is not a readable file")


@pytest.mark.parametrize("content", ["garbage", "truncated"])
def test_unreadable_models_are_refused(content, tmp_path):
    path = tmp_path / "model.keras"
    FlowModel(vector()).save(path)
    whole = path.read_bytes()
    path.write_bytes(b"garbage" if content == "garbage" else whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.keras"):
        keras.models.load_model(path)


def test_missing_files(tmp_path):
    for name in ("no.weights.h5", "no.weights.json", "no.keras"):
        path = tmp_path / name
        assert_refused(
            lambda model, path=path: model.load_weights(path),
            vector(),
            FileNotFoundError,
            f"no such file: .*{name}",
        )
    assert_refused(
        lambda model: tf.train.Checkpoint(model=model).restore(str(tmp_path / "no")),
        vector(),
        tf.errors.NotFoundError,
        "no",
    )


def test_other_kinds_of_files(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(b"weights")
    match = r"model\.npz must end in \.weights\.h5"
    assert_refused(lambda m: m.load_weights(path), vector(), ValueError, match)


def test_partial_loads_are_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    FlowModel(vector()).save_weights(path)
    for build in (vector, lambda: vector(width=9)):
        assert_refused(
            lambda model: model.load_weights(path, skip_mismatch=True),
            build(),
            ValueError,
            "skip_mismatch=True would load some weights",
        )


def test_each_truncated_shard_is_refused_before_anything_is_loaded(tmp_path):
    load = save(FlowModel(vector()), "shards", tmp_path)
    shards = sorted(tmp_path.glob("*.h5"))
    assert len(shards) > 1
    for shard in shards:
        whole = shard.read_bytes()
        shard.write_bytes(whole[: len(whole) // 2])
        assert_refused(load, vector(), OSError, "not a readable file.*truncated")
        shard.write_bytes(whole)
    load(FlowModel(vector()))


def test_a_damaged_part_leaves_the_flow_as_it_was(tmp_path):
    """What the description of the architecture cannot tell beforehand."""
    load = save(FlowModel(vector()), "weights", tmp_path)
    with h5py.File(tmp_path / "model.weights.h5", "a") as file:
        del file["layers/affine_coupling_1/networks/mlp/_output/vars/0"]
    assert_refused(load, vector(), ValueError, "could not be loaded")


# What variables mean.


def residual(**options):
    small = {"layers": 1, "width": 8, "depth": 1, "seed": 0}
    return flows.residual_flow((2,), **{**small, **options})


def plus_plus(**options):
    small = {"layers": 1, "width": 4, "components": 2, "bounds": (0, 4), "seed": 0}
    small["dequantize"] = "uniform"
    return flows.flow_plus_plus((2,), **{**small, **options})


class Renamed(bijectors.Scaling):
    _saved_as = "Scaling"


def strictly_earlier(x):
    """A conditioner of four entries and two parameters, without weights."""
    return tf.tile(tf.cumsum(x, -1, exclusive=True), [1, 2])


# Bijectors of vectors, by the shape of an event.
OF_VECTORS = {
    "plu": lambda shape: bijectors.PLU(event_shape=shape, seed=0),
    "qr": lambda shape: bijectors.QR(event_shape=shape, seed=0),
    "reverse": lambda shape: bijectors.Permutation("reverse", event_shape=shape),
    "random": lambda shape: bijectors.Permutation("random", event_shape=shape, seed=0),
    "planar": lambda shape: bijectors.Planar(event_shape=shape),
    "radial": lambda shape: bijectors.Radial(event_shape=shape),
    "sylvester": lambda shape: bijectors.Sylvester(event_shape=shape),
    "simplex": lambda shape: bijectors.Simplex(event_shape=shape),
    "made": lambda shape: bijectors.MaskedAutoregressive(
        networks.MADE(event_shape=shape, num_parameters=2, hidden_units=[8])
    ),
    "masked_autoregressive": lambda shape: bijectors.MaskedAutoregressive(
        strictly_earlier, event_shape=shape
    ),
    "inverse_autoregressive": lambda shape: bijectors.InverseAutoregressive(
        strictly_earlier, event_shape=shape
    ),
}


@pytest.mark.parametrize("name", OF_VECTORS)
def test_the_shape_of_vectors_in_each_form(name):
    build = OF_VECTORS[name]
    noise = 3 if name == "simplex" else 4
    lines = []
    for shape in (4, [4], (4,), np.array([4]), tf.TensorShape([4])):
        flow = Flow(distributions.standard_normal([noise]), build(shape))
        assert flow.event_shape == [4]
        lines.append(Architecture(flow).lines)
    assert all(line == lines[0] for line in lines)
    # No name of an argument stands for the shape.
    assert "shape" not in "".join(lines[0]) and "size" not in "".join(lines[0])
    with pytest.raises(ValueError, match=r"event_shape must be D or \[D\].*\(4, 2\)"):
        build((4, 2))


# What the weights are of, and what they are loaded into.
SAME = {
    "estimate": (
        lambda: residual(log_det="roulette", terms=3, probes=2),
        lambda: residual(log_det="exact"),
    ),
    "samples": (
        plus_plus,
        lambda: plus_plus(dequantize={"name": "uniform", "samples": 16}),
    ),
    "precision": (vector, lambda: vector(conditioner_dtype="bfloat16")),
    "recomputed": (vector, lambda: vector(recompute_gradients=True)),
    "tolerance": (
        lambda: alone(bijectors.ResidualFlow(networks.LipschitzMLP(4, (8,)), (4,))),
        lambda: alone(
            bijectors.ResidualFlow(
                networks.LipschitzMLP(4, (8,)), (4,), max_iterations=9, tolerance=1e-3
            )
        ),
    ),
    "draws": (
        lambda: vector(base={"name": "resampled", "width": 4, "draws": 64}),
        lambda: vector(base={"name": "resampled", "width": 4, "draws": 128}),
    ),
    "momentum": (
        lambda: alone(bijectors.BatchNorm([4])),
        lambda: alone(bijectors.BatchNorm([4], momentum=0.99)),
    ),
    "renamed_class": (
        lambda: alone(bijectors.Scaling([4])),
        lambda: alone(Renamed([4])),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_variables_that_mean_the_same(name, tmp_path):
    source, target = (FlowModel(build()) for build in SAME[name])
    perturb(source.flow, 0.01, seed=3)
    for route in ("weights", "checkpoint"):
        perturb(target.flow, 0.01)
        save(source, route, tmp_path)(target)
        assert_same(values(source.flow), values(target.flow))


def test_a_class_of_another_name_is_another_one(tmp_path):
    class Other(bijectors.Scaling):
        pass

    load = save(FlowModel(alone(bijectors.Scaling([4]))), "weights", tmp_path)
    match = "it has Scaling.* where this flow has Other"
    assert_refused(load, alone(Other([4])), ArchitectureMismatch, match)


def test_a_file_of_a_later_format_is_refused(tmp_path):
    load = save(FlowModel(vector()), "weights", tmp_path)
    with h5py.File(tmp_path / "model.weights.h5", "a") as file:
        text = (
            file["vars/architecture"][()]
            .tobytes()
            .replace(b'"format": 1', b'"format": 2')
        )
        del file["vars/architecture"]
        file["vars/architecture"] = np.frombuffer(text, np.uint8)
    assert_refused(
        load, vector(), ArchitectureMismatch, "has format 2, this .* reads 1"
    )


def test_a_model_goes_to_a_file_that_can_be_loaded(tmp_path):
    for name in ("a.h5", "a.hdf5", "a", "a.weights.h5"):
        with pytest.raises(ValueError, match=r"must end in \.keras.*save_weights"):
            FlowModel(vector()).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


# Files that declare more than they hold.


def test_arrays_that_are_not_there(tmp_path):
    load = save(FlowModel(vector()), "weights", tmp_path)
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "a") as file:
        file.create_dataset("layers/large", (10**5, 10**5), "f4", chunks=(1000, 1000))
    assert path.stat().st_size < 10**6
    assert_refused(load, vector(), ValueError, r"declares 40 GB, of which .*e-06 GB")


def test_compressed_arrays(tmp_path):
    load = save(FlowModel(vector()), "weights", tmp_path)
    with h5py.File(tmp_path / "model.weights.h5", "a") as file:
        zeros = np.zeros(10**8, np.uint8)
        file.create_dataset("vars/zeros", data=zeros, compression="gzip")
    assert_refused(load, vector(), ValueError, r"declares 0\.1 GB")


def test_compressed_archives(tmp_path):
    path = tmp_path / "model.keras"
    FlowModel(vector()).save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(10**8))
    with pytest.raises(ValueError, match=r"declares 0\.1 GB"):
        load_model(path)


def forge(path, **config):
    """Changes what a file says of its flow."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(files["config.json"])
    described["config"]["flow"] |= config
    files["config.json"] = json.dumps(described).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"event_shape": [10**9]}, "event_shape is .1000000000."),
        ({"event_shape": [10**4, 10**4, 3]}, "event_shape is"),
        ({"layers": 10**5}, "layers is 100000"),
        ({"width": 10**6}, "width is 1000000"),
        ({"event_shape": [10**4], "layers": 2000}, "event_shape and layers is 20000"),
        ({"event_shape": [2**17], "width": 4000}, "event_shape and width is 524288000"),
        ({"width": 4000, "depth": 30}, "width, depth and layers is"),
        (
            {"dequantize": {"name": "variational", "width": 4000, "depth": 30}},
            "width, depth and layers is",
        ),
        # Inside, the shape of an event is a number like others.
        ({"context_encoder": {"event_shape": [10**5]}}, "event_shape is 100000"),
    ],
)
def test_flows_too_large_for_their_file(config, match, tmp_path):
    path = tmp_path / "model.keras"
    FlowModel(vector()).save(path)
    assert isinstance(load_model(path), FlowModel)
    forge(path, **config)
    for load in (load_model, keras.models.load_model, FlowModel(vector()).load_weights):
        with pytest.raises(ValueError, match=match):
            load(path)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"event_shape": [10**5], "layers": 1}, "^event_shape is 100000 "),
        ({"event_shape": [3000], "layers": 300}, "event_shape and layers is 900000"),
        ({"width": 2000, "depth": 3}, "width, depth and layers is"),
        ({"event_shape": [5]}, r"event_shape is \[5\] .* are those of \[2\]"),
    ],
)
def test_products_are_held_against_the_file(config, match, tmp_path):
    path = tmp_path / "model.keras"
    FlowModel(vector()).save(path)
    forge(path, **config)
    with pytest.raises(ValueError, match=match):
        load_model(path)


def test_variables_that_outgrow_the_file_are_not_made(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    FlowModel(vector()).save(path)
    monkeypatch.setattr(weights_file, "_SLACK", -20 * path.stat().st_size + 100)
    monkeypatch.setattr(weights_file, "check_file", lambda path: {})
    with pytest.raises(ValueError, match="the flow takes more than 1e-07 GB"):
        load_model(path)


@pytest.mark.slow
def test_wide_flows_of_large_events_load(tmp_path):
    """The limits let through what is large in one way."""
    for i, flow in enumerate(
        (
            flows.planar((5000,), layers=2, seed=0),
            flows.real_nvp((2,), layers=2, width=1500, depth=1, seed=0),
            flows.nice((2,), layers=20, width=2, depth=2, seed=0),
            flows.glow((64, 64, 3), levels=1, steps=2, width=2, seed=0),
        )
    ):
        FlowModel(flow).save(tmp_path / f"{i}.keras")
        assert isinstance(load_model(tmp_path / f"{i}.keras"), FlowModel)


def test_the_number_of_layers_is_held_against_the_file(tmp_path):
    path = tmp_path / "model.keras"
    FlowModel(vector()).save(path)
    forge(path, layers=20_000)
    with pytest.raises(ValueError, match="layers is 20000"):
        load_model(path)
