"""Networks built from minigrad.nn."""
from .lenet import LeNet, lenet
from .mlp import mlp
from .resnet import resnet, wide_resnet
