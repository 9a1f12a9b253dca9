"""Data for flows: toy densities, image sets, and a user's own arrays and files."""

from tfp_flows.datasets.files import FILE_FORMATS
from tfp_flows.datasets.load import load
from tfp_flows.datasets.source import DataSource
from tfp_flows.datasets.tfds_sets import DatasetUnavailableError
from tfp_flows.datasets.toys import TOYS, Toy

__all__ = [
    "FILE_FORMATS",
    "TOYS",
    "DataSource",
    "DatasetUnavailableError",
    "Toy",
    "load",
]
