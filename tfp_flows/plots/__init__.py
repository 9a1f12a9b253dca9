"""Pictures: densities, grids, masks, diagrams, images, curves, diagnostics, films.

Every function returns a matplotlib figure, a `Picture`, which shows itself at the end
of a notebook cell, and with `path`, which ends in `.png`, writes it to a file;
`animate` makes a film of such figures. Nothing here needs or changes pyplot, a display
or a backend.
"""

from tfp_flows.core.extras import needs

with needs("plots"):
    from tfp_flows.plots._figure import Picture
    from tfp_flows.plots.alt_text import describe
    from tfp_flows.plots.densities import density, histogram, warped_grid
    from tfp_flows.plots.dependencies import dependencies
    from tfp_flows.plots.diagnostics import (
        calibration,
        coverage,
        local_two_sample_test,
        two_sample_test,
    )
    from tfp_flows.plots.diagrams import diagram
    from tfp_flows.plots.film import Animation, Frames, animate
    from tfp_flows.plots.images import images, strip
    from tfp_flows.plots.lessons import (
        change_of_variables,
        masks,
        matrices,
        rearrangement,
    )
    from tfp_flows.plots.lines import curves, history, spectrum

__all__ = [
    "Animation",
    "Frames",
    "Picture",
    "animate",
    "calibration",
    "change_of_variables",
    "coverage",
    "curves",
    "density",
    "dependencies",
    "describe",
    "diagram",
    "histogram",
    "history",
    "images",
    "local_two_sample_test",
    "masks",
    "matrices",
    "rearrangement",
    "spectrum",
    "strip",
    "two_sample_test",
    "warped_grid",
]
