"""What a step of Algorithm 1 asks of the device, counted by the stand-in for CUDA in dry mode, at full size.

A step with running averages, momentum and weight decay, and a rate that is an array. A change that adds kernels, bytes
or arithmetic fails here, and so does one that saves some: write the new figures into COUNTS, and say why in the commit.
Kernels of *.cu files take bare addresses, of which the stand-in knows no bytes: these count as 0, and so does the
arithmetic of a convolution by a kernel.
"""
from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import capture, nn
from minigrad.backend import generator
from minigrad.models import lenet, resnet

from ..fakecuda import device as standin
from .test_capture import algorithm1

pytestmark = [pytest.mark.needs("fakecuda"), pytest.mark.parametrize("device", ["cupy"], indirect=True)]


class Problem(NamedTuple):
    """A network, its loss, the shape of an image, and how many images are noisy and clean."""
    network: Any
    loss: Any
    image: tuple
    noisy: int
    clean: int


class Counts(NamedTuple):
    """Of a step: operations (kernels, products, copies, memory that is set) when each is launched by itself, nodes of its
    graph, operations that replay it, bytes that kernels and products read and write, and floating-point operations."""
    operations: int
    nodes: int
    replay: int
    bytes: int
    flops: int


PROBLEMS = {"resnet32": Problem(lambda: resnet(generator(0), 32), nn.cross_entropy, (32, 32, 3), 100, 100),
            "lenet": Problem(lambda: lenet(generator(0)), nn.sigmoid_cross_entropy, (28, 28, 1), 100, 10)}
COUNTS = {"resnet32": Counts(1046, 913, 5, 7860825477, 28489523200), "lenet": Counts(216, 210, 5, 361444321, 1983978000)}


@pytest.fixture
def dry():
    standin.dry()
    yield
    standin.dry(False)


def problem_of(name):
    """A step of Algorithm 1, the state that it begins with, and its inputs."""
    problem = PROBLEMS[name]

    def batch(n):
        return mg.xp.ones((n, *problem.image), "float32"), mg.xp.zeros(n, "int64")
    step, begin = algorithm1(problem.network(), problem.loss)
    return step, begin, (*batch(problem.noisy), *batch(problem.clean), mg.xp.asarray(np.float32(0.1)))


def report_of_one_more(run, state, inputs, before):
    """The report of a step, after some to warm up; nothing may wait for the device or grow."""
    for _ in range(before):
        state, _ = run(state, *inputs)
    held = standin.counter("bytes in use")
    standin.reset()
    state, outputs = run(state, *inputs)
    report = standin.report()
    counters = report["counters"]
    assert not [name for name in counters if name.startswith("waits") or "malloc" in name], "a step waits, or asks CUDA for memory"
    assert counters["bytes in use"] == held
    return report


@pytest.mark.parametrize("name", PROBLEMS)
def test_counts_are_those_on_record(device, name, dry):
    step, state, inputs = problem_of(name)
    eager = report_of_one_more(step, state, inputs, 3)
    captured = capture(step)
    replay = report_of_one_more(captured, state, inputs, 3)
    _, bytes_, flops = (round(sum(each)) for each in zip(*eager["kernels"].values()))
    found = Counts(eager["counters"]["operations"], captured.launches, replay["counters"]["operations"], bytes_, flops)
    assert found == COUNTS[name], f"{name}: {found}: more of anything needs a reason; less is to be kept, so write it into COUNTS"
