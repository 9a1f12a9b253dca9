"""Scores of how unusual data are under a flow; a higher one is always more unusual.

All take data as the flow takes them: pixels as stored, with their noise if the flow is
trained with noise. They evaluate batches in a `tf.function` and return NumPy arrays
`[N]`. None of them is right for all data: a density is high for simple data, such as a
black image, whatever the flow was trained on (Nalisnick et al. 2019, "Do deep
generative models know what they don't know?"). Compare several with `auroc`.
"""

from tfp_flows.detection.auroc import auroc
from tfp_flows.detection.complexity import complexity, complexity_corrected
from tfp_flows.detection.scores import (
    gradient_norm,
    latent_norm,
    likelihood_ratio,
    mutate,
    negative_log_likelihood,
    typicality,
)

__all__ = [
    "auroc",
    "complexity",
    "complexity_corrected",
    "gradient_norm",
    "latent_norm",
    "likelihood_ratio",
    "mutate",
    "negative_log_likelihood",
    "typicality",
]
