"""The version, where packaging reads it without importing TensorFlow."""

__version__ = "0.1.0"
