"""What can be wrong with a model's directory."""

from __future__ import annotations


class ModelError(ValueError):
    """A model cannot be made of the files in a directory. The message says which file and why."""


class MissingFileError(ModelError):
    """There is no such directory, or a file that the model needs is not in it."""


class BrokenFileError(ModelError):
    """A file is cut off, is not what its name says, or contradicts itself."""


class TensorError(ModelError):
    """A tensor is missing, or its shape or dtype is not the one that the configuration asks for."""


class UnsupportedModelError(ModelError):
    """The files are in order, but they are of a model that is not computed here."""
