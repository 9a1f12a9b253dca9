"""Tools for the codes of a flow, which mix, move and redraw them.

All functions take a `tfp_flows.Flow` and data as the flow takes them, and give data
back; the code of data is `flow.encode(data)`. They cast what they are given to the
flow's dtype. Whatever the flow knows beside (`context`) is a keyword; it has the batch
shape of the data, or one that broadcasts with it.
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
