"""Tests of posteriors and densities: calibration, coverage, and classifiers.

They take arrays, so the posterior may be a flow, a Markov chain, or anything else that
gives samples. `tfp_flows.plots` draws what they return.
"""

from tfp_flows.diagnostics.calibration import (
    expected_coverage,
    simulation_based_calibration,
    tarp,
)
from tfp_flows.diagnostics.local_two_sample import (
    LocalTwoSampleTest,
    local_two_sample_test,
)
from tfp_flows.diagnostics.pit import pit
from tfp_flows.diagnostics.two_sample import TwoSampleTest, two_sample_test
from tfp_flows.diagnostics.uniformity import Uniformity, uniformity

__all__ = [
    "LocalTwoSampleTest",
    "TwoSampleTest",
    "Uniformity",
    "expected_coverage",
    "local_two_sample_test",
    "pit",
    "simulation_based_calibration",
    "tarp",
    "two_sample_test",
    "uniformity",
]
