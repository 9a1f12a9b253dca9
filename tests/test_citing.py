"""Flows cite the papers that they use, and no others."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows
from tfp_flows import (
    bijectors,
    distributions,
    flows,
    inference,
    masks,
    networks,
    training,
)
from tfp_flows.citing import bibliography

tfb, tfd = tfp.bijectors, tfp.distributions
DECLARED = re.compile(r'"([a-z]+(?:19|20)\d\d\w*)"')


def keys(flow) -> list[str]:
    """The keys of what a flow cites."""
    return re.findall(r"@\w+{([^,]+),", tfp_flows.citation(flow))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("real_nvp", ["dinh2017real_nvp"]),
        ("nice", ["dinh2014nice"]),
        ("maf", ["germain2015made", "papamakarios2017maf"]),
        ("iaf", ["germain2015made", "kingma2016iaf"]),
        (
            "naf",
            [
                "germain2015made",
                "ho2019flowpp",
                "huang2018naf",
                "papamakarios2017maf",
            ],
        ),
        ("bnaf", ["decao2019bnaf", "salimans2016weight"]),
        (
            "gaussianization",
            [
                "ho2019flowpp",
                "hoogeboom2019emerging",
                "laparra2011rbig",
                "meng2020gaussianization",
                "tomczak2016householder",
            ],
        ),
        (
            "tarflow",
            [
                "ba2016layer",
                "papamakarios2017maf",
                "vaswani2017attention",
                "zhai2024tarflow",
            ],
        ),
        ("planar", ["rezende2015variational"]),
        ("ffjord", ["chen2018neural", "grathwohl2019ffjord"]),
        ("sylvester", ["vandenberg2018sylvester"]),
        # Its linear layers are Glow's.
        (
            "neural_spline_flow",
            ["dinh2017real_nvp", "durkan2019spline", "kingma2018glow"],
        ),
        # Two dimensions have an exact log-determinant.
        (
            "residual_flow",
            [
                "behrmann2019invertible",
                "chen2019residual",
                "gouk2021lipschitz",
                "kingma2018glow",
                "miyato2018spectral",
            ],
        ),
    ],
)
def test_ready_flows(name, expected):
    options = {} if name in ("gaussianization", "planar", "sylvester") else {"width": 4}
    layers = 1 if name in ("iaf", "residual_flow", "ffjord") else 2
    flow = getattr(flows, name)((2,), layers=layers, seed=0, **options)
    assert keys(flow) == expected
    assert keys(tfp_flows.FlowModel(flow)) == expected


def test_a_flow_of_images():
    jet = flows.jet((4, 4, 1), layers=2, depth=1, width=4, seed=0)
    assert keys(jet) == [
        "ba2016layer",
        "dinh2017real_nvp",
        "dosovitskiy2021image",
        "kolesnikov2024jet",
        "vaswani2017attention",
    ]


def test_options_that_are_papers():
    def real_nvp(**options):
        return flows.real_nvp((2,), layers=1, width=4, seed=0, **options)

    own = {"dinh2017real_nvp"}
    assert set(keys(real_nvp(base="normal"))) == own
    film = real_nvp(context_shape=(1,), context_mode="film")
    assert set(keys(film)) - own == {"perez2018film"}
    assert set(keys(real_nvp(context_shape=(1,)))) == own
    deep = real_nvp(recompute_gradients=True)
    assert set(keys(deep)) - own == {"gomez2017reversible"}
    integers = real_nvp(bounds=(0, 4), dequantize={"name": "uniform", "samples": 2})
    assert set(keys(integers)) - own == {
        "theis2016note",
        "burda2016importance",
        "hoogeboom2021dequantization",
    }
    learned = real_nvp(bounds=(0, 4), dequantize={"name": "variational", "layers": 2})
    assert set(keys(learned)) - own == {"ho2019flowpp"}
    costs = {"kinetic_energy": 1.0, "width": 4}
    continuous = flows.ffjord((2,), **costs)
    of_velocity = {"chen2018neural", "grathwohl2019ffjord"}
    of_costs = {"finlay2020train", "onken2021ot"}
    assert set(keys(continuous)) - of_velocity == of_costs
    matching = training.FlowMatching(flows.ffjord((2,), width=4), "optimal_transport")
    of_matching = {"lipman2023flow", "tong2024improving"}
    assert set(keys(matching)) - of_velocity == of_matching
    noisy = tfp_flows.FlowModel(real_nvp(), dequantize=True)
    assert set(keys(noisy)) - own == {"theis2016note"}


def test_bases():
    def with_base(base):
        return keys(tfp_flows.Flow(base, tfb.Identity()))

    assert with_base(distributions.standard_normal([2])) == []
    assert with_base(distributions.student_t([2])) == ["jaini2020tails"]
    mixture = distributions.gaussian_mixture([2], reparameterize=True)
    assert with_base(mixture) == ["figurnov2018implicit", "izmailov2020semi"]


def test_levels_and_priors():
    levels = [tfb.Invert(bijectors.Squeeze(2)) for _ in range(2)]
    assert keys(bijectors.MultiScale(levels, (4, 4, 1))) == ["dinh2017real_nvp"]
    prior = networks.ConvNet(4, 4, (), seed=0)
    stack = bijectors.MultiScale(levels, (4, 4, 1), [prior])
    assert keys(stack) == ["dinh2017real_nvp", "kingma2018glow"]


def test_chains_and_parts_of_tfp():
    coupling = bijectors.AdditiveCoupling(masks.half(4), networks.MLP(2, seed=0))
    chain = tfb.Chain([coupling, tfb.Invert(bijectors.Scaling([4])), tfb.Exp()])
    assert keys(chain) == ["dinh2014nice"]
    made = tfb.AutoregressiveNetwork(2, event_shape=[4], hidden_units=[4])
    chain = bijectors.Chain([chain, tfb.MaskedAutoregressiveFlow(made)])
    td = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), 4), chain)
    assert keys(td) == ["dinh2014nice", "germain2015made", "papamakarios2017maf"]
    # Each entry is whole, and once.
    entries = tfp_flows.citation(td).split("\n\n")
    assert [entry.count("@") for entry in entries] == [1, 1, 1]
    assert entries[2].endswith("eprint = {1705.07057},\n  archivePrefix = {arXiv},\n}")


def test_objectives():
    flow = flows.real_nvp((2,), layers=1, width=4, seed=0)

    def model(**options):
        return inference.VariationalModel(lambda x: -tf.reduce_sum(x), flow, **options)

    own = {"dinh2017real_nvp"}
    assert set(keys(model())) == own
    assert set(keys(model(path_gradient=True))) - own == {"roeder2017sticking"}
    weighted = model(objective="importance_weighted", path_gradient=True)
    assert set(keys(weighted)) - own == {"burda2016importance", "tucker2019doubly"}


def test_papers_of_a_user():
    class Mine(bijectors.Scaling):
        papers = ("dinh2014nice", "@misc{me2026,\n  title = {Mine},\n}")

    assert keys(Mine([2])) == ["dinh2014nice", "me2026"]
    Mine.papers = ("nobody1999",)
    with pytest.raises(ValueError, match=r"Mine\.papers names 'nobody1999'"):
        tfp_flows.citation(Mine([2]))
    with pytest.raises(TypeError, match=r"flow must be a flow, .* got str"):
        tfp_flows.citation("real_nvp")


def test_every_entry_is_used_and_every_key_known():
    package = Path(tfp_flows.__file__).parent
    sources = "\n".join(p.read_text() for p in package.rglob("*.py"))
    known = bibliography()
    assert set(DECLARED.findall(sources)) == set(known)
    for key, entry in known.items():
        assert re.search(r"^  year = {(\d+)},$", entry, re.M)[1] in key
        assert re.search("^  (booktitle|journal) = ", entry, re.M), key
        assert re.match(r"\d{4}\.\d{4,5}$", re.search("eprint = {(.*)}", entry)[1])


@pytest.mark.parametrize("package", [bijectors, networks, distributions])
def test_classes_declare_the_papers_that_they_name(package):
    """Years in a docstring are those of papers; flows are asked for their parts."""
    for name in package.__all__:
        named = getattr(package, name)
        if not inspect.isclass(named) or name in ("JointBijector", "Network", "Flow"):
            continue
        summary = inspect.getdoc(named).partition("Example:")[0]
        if re.search(r"\b(19|20)\d\d\b", summary):
            # A tuple, or a property that says it of an instance.
            assert named.papers, f"{name}.papers"
