"""Posteriors by flows: variational, of simulators, and MCMC through a flow."""

from tfp_flows.inference import simulators
from tfp_flows.inference.flow_proposal import (
    UncalibratedFlowProposal,
    flow_proposal,
)
from tfp_flows.inference.importance import (
    ImportanceSampling,
    effective_sample_size,
    importance_sampling,
    pareto_smooth,
)
from tfp_flows.inference.in_turn import InTurn
from tfp_flows.inference.neural_likelihood import NeuralLikelihood
from tfp_flows.inference.neural_posterior import NeuralPosterior
from tfp_flows.inference.neutra import neutra
from tfp_flows.inference.objectives import (
    forward_kl,
    importance_weighted,
    reverse_kl,
)
from tfp_flows.inference.simulation import simulate
from tfp_flows.inference.stochastic_flow import StochasticFlow
from tfp_flows.inference.surrogate import surrogate_posterior
from tfp_flows.inference.variational_model import VariationalModel

__all__ = [
    "ImportanceSampling",
    "InTurn",
    "NeuralLikelihood",
    "NeuralPosterior",
    "StochasticFlow",
    "UncalibratedFlowProposal",
    "VariationalModel",
    "effective_sample_size",
    "flow_proposal",
    "forward_kl",
    "importance_sampling",
    "importance_weighted",
    "neutra",
    "pareto_smooth",
    "reverse_kl",
    "simulate",
    "simulators",
    "surrogate_posterior",
]
