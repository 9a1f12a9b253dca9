"""Tools that mix, move and redraw the codes of data.

The code of data is `flow.encode(data)`. All functions take a `tfp_flows.Flow` and data,
which they cast to the flow's dtype, and most return data. For a flow with a context,
`context` is a keyword; its batch shape must broadcast with that of the data.
"""

from tfp_flows.latent.attributes import (
    attribute_vector,
    attribute_vectors,
    edit,
    mean_code,
)
from tfp_flows.latent.interpolation import interpolate, slerp
from tfp_flows.latent.levels import level_slices, resample_levels
from tfp_flows.latent.variations import temperatures, translate, traverse

__all__ = [
    "attribute_vector",
    "attribute_vectors",
    "edit",
    "interpolate",
    "level_slices",
    "mean_code",
    "resample_levels",
    "slerp",
    "temperatures",
    "translate",
    "traverse",
]
