"""What is said of data that a density hardly suits, as categories of warnings."""

from __future__ import annotations

__all__ = ["ConstantDataWarning", "DataWarning", "WholeNumbersWarning"]


class DataWarning(UserWarning):
    """Data that a flow of a continuous density cannot model well as they are.

    Example:
      >>> import warnings
      >>> from tfp_flows import training
      >>> warnings.simplefilter("error", training.DataWarning)
    """


class ConstantDataWarning(DataWarning):
    """Columns that do not vary: their density has no bound.

    Example:
      >>> from tfp_flows import training
      >>> issubclass(training.ConstantDataWarning, training.DataWarning)
      True
    """


class WholeNumbersWarning(DataWarning):
    """Whole numbers: a density rises on them without bound.

    Example:
      >>> from tfp_flows import training
      >>> issubclass(training.WholeNumbersWarning, training.DataWarning)
      True
    """
