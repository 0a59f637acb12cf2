"""Networks built from minigrad.nn: from minigrad.models import resnet."""
import importlib
import sys

if __name__ == "models":        # the same modules, where this folder is imported by itself
    for _name in ("lenet", "mlp", "resnet"):
        sys.modules[f"models.{_name}"] = importlib.import_module(f"minigrad.models.{_name}")

from .lenet import LeNet, lenet
from .mlp import mlp
from .resnet import resnet, standard_resnet, wide_resnet

__all__ = ["LeNet", "lenet", "mlp", "resnet", "standard_resnet", "wide_resnet"]
