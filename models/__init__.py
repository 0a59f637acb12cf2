"""Networks built from minigrad.nn."""
from .lenet import LeNet, lenet
from .mlp import mlp
from .resnet import resnet, standard_resnet, wide_resnet
