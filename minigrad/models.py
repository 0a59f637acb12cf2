"""The folder models/ of a checkout, as minigrad.models. In a wheel that folder itself is minigrad/models/."""
import importlib.util
import pathlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models import *  # noqa: F403

_spec = importlib.util.spec_from_file_location(__name__, pathlib.Path(__file__).parent.parent / "models/__init__.py")
assert _spec is not None and _spec.loader is not None
sys.modules[__name__] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[__name__])
