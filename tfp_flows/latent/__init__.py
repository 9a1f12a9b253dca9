"""Tools that mix, move and redraw the codes of data, and look at them.

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
from tfp_flows.latent.denoise import denoise
from tfp_flows.latent.dimension import (
    dimension_from_noise,
    dimension_from_spectrum,
    jacobian_singular_values,
    scale_spectrum,
)
from tfp_flows.latent.guidance import guided_sample
from tfp_flows.latent.interpolation import interpolate, slerp
from tfp_flows.latent.levels import level_slices, resample_levels
from tfp_flows.latent.on_flow import on_flow
from tfp_flows.latent.temperature import fit_temperature, tempered
from tfp_flows.latent.variations import temperatures, translate, traverse

__all__ = [
    "attribute_vector",
    "attribute_vectors",
    "denoise",
    "dimension_from_noise",
    "dimension_from_spectrum",
    "edit",
    "fit_temperature",
    "guided_sample",
    "interpolate",
    "jacobian_singular_values",
    "level_slices",
    "mean_code",
    "on_flow",
    "resample_levels",
    "scale_spectrum",
    "slerp",
    "temperatures",
    "tempered",
    "translate",
    "traverse",
]
