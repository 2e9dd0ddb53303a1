"""Gateline: recurrent sequence models from versioned data to a model in production."""

__version__ = "0.1.0"
