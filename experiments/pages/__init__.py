"""Demonstrations of a few seconds or minutes, each with a page of numbers and a picture."""
from .. import deprecated

__getattr__ = deprecated.attributes(__name__, "command")
