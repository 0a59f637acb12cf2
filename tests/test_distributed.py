"""Many ranks compute what one does: derivatives to third order, layers, Algorithm 1. On threads, and on MPI where there is one."""
import copy
import pickle
import sys
import time
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import communicators, distributed, nn, tree
from minigrad.distributed import Alone, allsum, broadcast, check_equal, part, share
from minigrad.errors import DTypeError, RankError

from . import rank_programs, ranks

SCALE = {"float64": 1e-12, "float32": 1e-6}


def assert_equal(found, expected, tolerance):
    """Compare two dicts: each value with the largest number in it as the scale."""
    assert found.keys() == expected.keys()
    for name in expected:
        pairs = [*zip(tree.flatten(found[name])[0], tree.flatten(expected[name])[0], strict=True)]
        scale = max([float(np.abs(e[np.isfinite(e)]).max(initial=0)) for _, e in pairs], default=0.0)
        for f, e in pairs:
            np.testing.assert_allclose(f, e, rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("size", [2, 3])
def test_adjoints(device, size):
    for found in ranks.run(size, rank_programs.adjoints):
        for name, (pushed, pulled) in found.items():
            assert pushed == pytest.approx(pulled, rel=1e-12), name


@pytest.mark.parametrize("size", [2, 3, 4])
def test_derivatives_to_third_order(device, size):
    expected = rank_programs.derivatives(Alone())
    for found in ranks.run(size, rank_programs.derivatives):
        assert_equal(found, expected, 1e-13)


@pytest.mark.parametrize("dtype", SCALE)
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", rank_programs.MODELS)
def test_algorithm_1_equals_one_rank(device, name, size, dtype):
    expected = rank_programs.step(name, dtype, Alone())
    for found in ranks.run(size, lambda comm: rank_programs.step(name, dtype, comm)):
        assert_equal(found, expected, SCALE[dtype])


def test_several_steps_have_the_same_bits_on_all_ranks_and_in_all_runs():
    first = ranks.run(3, lambda comm: rank_programs.step("resnet-8", "float32", comm, steps=3))
    again = ranks.run(3, lambda comm: rank_programs.step("resnet-8", "float32", comm, steps=3))
    for found in [*first, *again]:
        assert_equal(found, first[0], 0.0)
    assert_equal(first[0], rank_programs.step("resnet-8", "float32", Alone(), steps=3), 1e-4)


@pytest.mark.parametrize("name", ["lenet", "resnet-8"])
def test_an_example_that_is_not_finite(device, name):
    """It is left out on all ranks, wherever it is; where batch normalization couples the examples, all are."""
    expected = rank_programs.step(name, "float64", Alone(), spoil=2)
    assert expected["not finite"] == [1 if name == "lenet" else rank_programs.NOISY]
    assert any(np.any(g) for g in expected["gradient"]) == (name == "lenet" and mg.backend.name() == "numpy")
    for found in ranks.run(3, lambda comm: rank_programs.step(name, "float64", comm, spoil=2)):
        assert_equal({k: v for k, v in found.items() if k not in ("model", "averages")},
                     {k: v for k, v in expected.items() if k not in ("model", "averages")}, 1e-12)


def test_a_rank_without_examples(monkeypatch):
    monkeypatch.setattr(rank_programs, "counts", lambda n, size: [n, 0] if size == 2 else [n])
    expected = rank_programs.step("resnet-8", "float64", Alone())
    for found in ranks.run(2, lambda comm: rank_programs.step("resnet-8", "float64", comm)):
        assert_equal(found, expected, 1e-12)


def test_gradients_travel_in_few_messages():
    """Two of the size of the parameters, three numbers of line 11, and seven small ones of each batch normalization."""
    def count(name):
        def program(comm):
            rank_programs_step = rank_programs.step(name, "float32", comm)
            return comm.messages, comm.bytes, sum(g.nbytes for g in rank_programs_step["gradient"])
        return ranks.run(2, program)[0]
    messages, bytes, parameters = count("lenet")
    assert messages == 5 + 3 and 3 * parameters < bytes < 3 * parameters + 100     # with the clean gradient of example_weights
    layers = 7
    messages, bytes, parameters = count("resnet-8")
    assert messages == 8 + layers * (7 + 6) and bytes < 3.5 * parameters


# ------------------------------------------------------------------------------------------------ layers

def test_batch_normalization_without_a_communicator_is_local():
    x = rank_programs.normal(0, 8, 3)
    layer = nn.BatchNorm.init(3)
    for comm, y in enumerate(ranks.run(2, lambda comm: layer.apply(part(x, comm), layer.init_state())[0])):
        np.testing.assert_array_equal(y, layer(x[4 * comm:4 * comm + 4]))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_batch_normalization_far_from_zero(device, dtype):
    """Statistics of the whole batch are as precise on two ranks as on one, in value, gradient and averages."""
    x = mg.xp.asarray(rank_programs.normal(0, 12, 5, 3) * 0.5 + 100.0, dtype)

    def program(comm):
        layer = distributed.synchronize(nn.BatchNorm.init(3), comm)
        mine = part(x, comm)
        y, state = layer.apply(mine, layer.init_state())
        gradient = mg.grad(lambda pair: mg.sum(pair[0](pair[1]) ** 3))((layer, mine))
        return tree.map(mg.to_host, (comm.gather(mg.to_host(y)), comm.gather(mg.to_host(gradient[1])), state))
    y, gradient, state = program(Alone())
    for ys, gradients, states in ranks.run(2, program):
        tolerance = {"float16": 2e-2, "float32": 2e-3, "float64": 1e-11}[dtype]
        np.testing.assert_allclose(np.concatenate(ys), y[0], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(np.concatenate(gradients), gradient[0], rtol=tolerance, atol=tolerance)
        assert_equal(states, state, tolerance)


def test_a_batch_of_one_row_on_each_rank():
    layer = nn.BatchNorm.init(2)
    x = rank_programs.normal(0, 2, 2)
    ys = ranks.run(2, lambda comm: distributed.synchronize(layer, comm).apply(part(x, comm), layer.init_state())[0])
    np.testing.assert_allclose(np.concatenate(ys), layer(x), rtol=1e-6)


def test_a_synchronized_model_is_still_a_tree(tmp_path):
    comm = ranks.run(2, lambda comm: comm)[0]
    model = mg.models.resnet(np.random.default_rng(0), 8)
    synchronized = distributed.synchronize(model, comm)
    found = str(tree.flatten(synchronized)[1])
    assert found.count("Thread object") == 7 and all(a is b for a, b in zip(tree.flatten(model)[0], tree.flatten(synchronized)[0]))
    tree.save(tmp_path / "model", synchronized)
    tree.load(tmp_path / "model", model)
    for alone in (distributed.synchronize(model, Alone()), distributed.synchronize(model)):
        for again in (copy.deepcopy(alone), pickle.loads(pickle.dumps(alone))):
            assert tree.flatten(again)[1] == tree.flatten(alone)[1] != tree.flatten(model)[1]


# ------------------------------------------------------------------------------------------------ functions

@given(st.integers(0, 40), st.integers(1, 9))
def test_parts_cover_all_rows(n, size):
    class Rank(Alone):
        def __init__(self, rank):
            self.rank, self.size = rank, size
    parts = [part(np.arange(n), Rank(rank)) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_broadcast_of_any_tree(device):
    def program(comm):
        x = {"float": mg.xp.full(2, np.nan if comm.rank == 0 else 1.5), "int": mg.xp.arange(3) * comm.rank,
             "mask": mg.xp.asarray([comm.rank == 1, False]), "number": float(comm.rank), "none": None}
        return tree.map(mg.to_host, broadcast(x, 1, comm))
    for found in ranks.run(3, program):
        assert found["none"] is None and float(found["number"]) == 1.0 and found["mask"].dtype == bool and found["int"].dtype.kind == "i"
        for name, expected in (("float", [1.5, 1.5]), ("int", [0, 1, 2]), ("mask", [True, False])):
            np.testing.assert_array_equal(found[name], expected)


def test_one_rank_costs_nothing():
    x = np.ones(3)
    assert distributed.size() == 1 and distributed.rank() == 0 and allsum(x) is x and share({"x": x})["x"] is x and broadcast(x) is x
    assert part(x) is not x and len(part(x)) == 3 and check_equal(x) is None and distributed.world() is distributed.world()


def all_errors(size, program):
    """Return the text of the error of each rank."""
    def caught(comm):
        try:
            program(comm)
        except RankError as error:
            return str(error)
    return ranks.run(size, caught)


@pytest.mark.parametrize("program, what", [
    (lambda comm: allsum(np.ones(2 + comm.rank), comm), r"rank 0: allsum of float64\[2\]\n  rank 1: allsum of float64\[3\]"),
    (lambda comm: allsum(np.ones(2, ["float32", "float64"][comm.rank]), comm), r"rank 0: allsum of float32\[2\]\n  rank 1: allsum of float64\[2\]"),
    (lambda comm: allsum(np.ones(2), comm) if comm.rank else comm.gather(1), r"rank 0: gather\n  rank 1: allsum"),
    (lambda comm: check_equal({"a": np.ones(2), "b": np.full(2, comm.rank)}, comm), "of rank 1 differ from those of rank 0"),
])
def test_ranks_that_differ_are_told_on_all(program, what):
    first, second = all_errors(2, program)
    assert first == second
    with pytest.raises(RankError, match=what):
        raise RankError(first)


def test_equal_parameters_are_equal(device):
    assert all_errors(2, lambda comm: check_equal({"a": mg.xp.ones(2), "b": (1.0, None)}, comm)) == [None, None]


def test_bad_arguments():
    with pytest.raises(DTypeError, match="comm is a int, not a communicator"):
        allsum(np.ones(2), 3)
    with pytest.raises(RankError, match="there are ranks 0 to 0"):
        broadcast(np.ones(2), 1)
    with pytest.raises(DTypeError, match="only numbers are summed"):
        ranks.run(2, lambda comm: allsum(np.ones(2, bool), comm))


def test_mpiexec_without_mpi4py_is_told(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(__import__("sys").modules, "mpi4py", None)
    with pytest.raises(RankError, match=r"mpiexec started this program, but mpi4py cannot be imported .*\n  help: pip install"):
        communicators.world.__wrapped__()


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan"])
def test_a_bad_time_out_is_told(monkeypatch, value):
    monkeypatch.setenv("MINIGRAD_RANK_TIMEOUT", value)
    with pytest.raises(RankError, match="is not a number of seconds"):
        communicators._timeout()


# ------------------------------------------------------------------------------------------------ GPUs

class Twin(Alone):
    """A rank whose only other rank has just the same, so that a sum over both is twice its own."""
    def __init__(self):
        super().__init__()
        self.size, self.calls = 2, 0

    def _same(self, number):
        return True

    def _gather(self, value):
        return [value, value]

    def _sum(self, x):
        self.calls += 1
        return x + x


def test_a_step_over_ranks_can_be_captured(cupy):
    """It is the one that runs as it is, bit for bit: nothing in it waits for the device, and sums are in the graph."""
    comm = Twin()
    model, (x, y), (xc, yc) = rank_programs.data("resnet-8", "float32")
    model = distributed.synchronize(model, comm)

    def step(state, x, y, xc, yc):
        model, averages = state
        def losses(model):
            scores, new = model.apply(x, averages)
            return nn.cross_entropy(scores, y), new
        r = mg.reweighted_gradient(losses, lambda model: distributed.mean_part(nn.cross_entropy(model(xc), yc), comm), model, has_aux=True, comm=comm)
        return (tree.map(lambda p, g: p - 0.05 * g, model, r.gradient), r.aux), (r.weights, r.clean_loss, r.not_finite)
    captured, state, plain = mg.capture(step), (model, model.init_state()), (model, model.init_state())
    for _ in range(4):
        state, outputs = captured(state, x, y, xc, yc)
        plain, expected = step(plain, *map(cupy.asarray, (x, y, xc, yc)))
    assert captured.launches > 100 and comm.calls == (4 + 2) * (7 * 7 + 6)
    for a, b in zip(tree.flatten((state, outputs))[0], tree.flatten((plain, expected))[0], strict=True):
        np.testing.assert_array_equal(mg.to_host(a), mg.to_host(b))


@pytest.mark.parametrize("dtype", [*communicators.NCCL, "complex64"])
def test_sums_by_nccl(cupy, dtype):
    """A stand-in for NCCL gets addresses, number and type of the elements, and the stream; here it copies them."""
    x, calls = cupy.asarray(np.arange(12).reshape(3, 4).T.astype(dtype)), []

    class Copies:
        def allReduce(self, source, to, count, kind, operation, stream):
            size = {0: 1, 1: 1, 2: 4, 3: 4, 4: 8, 5: 8, 6: 2, 7: 4, 8: 8}[kind]
            cupy.cuda.runtime.memcpyAsync(to, source, count * size, cupy.cuda.runtime.memcpyDeviceToDevice, stream)
            calls.append(count)
    total = communicators._sum_by_nccl(Copies(), x)
    assert total.dtype == x.dtype and calls == [24 if dtype == "complex64" else 12]
    np.testing.assert_array_equal(mg.to_host(total), mg.to_host(x))


@pytest.mark.parametrize("uuids, available, why", [("ab", True, None), ("aa", True, "several ranks share a GPU"), ("ab", False, "NCCL is not installed on all ranks")])
def test_nccl_is_used_if_each_rank_has_a_gpu(monkeypatch, caplog, uuids, available, why):
    """All ranks get a communicator with the id that rank 0 made, or none does, with a warning."""
    def program(comm):
        cupy, nccl = types.ModuleType(f"cupy{comm.rank}"), types.ModuleType("nccl")
        cupy.cuda = types.SimpleNamespace(device=types.SimpleNamespace(get_device_id=lambda: 7), runtime=types.SimpleNamespace(
            getDeviceProperties=lambda device: {"uuid": (uuids[comm.rank] * (device == 7)).encode()}))
        nccl.available, nccl.get_unique_id = available or comm.rank == 0, lambda: f"made by {comm.rank}"
        nccl.NcclCommunicator = lambda *args: args
        monkeypatch.setitem(sys.modules, f"cupy{comm.rank}.cuda.nccl", nccl)
        return communicators._nccl(comm, cupy)
    assert ranks.run(2, program) == ([None, None] if why else [(2, "made by 0", 0), (2, "made by 0", 1)])
    assert [record.getMessage() for record in caplog.records] == [f"arrays on GPUs are summed on the host: {why}"] * (2 if why else 0)


@pytest.mark.needs("mpi", "fakecuda")
@pytest.mark.parametrize("aware", "01")
def test_arrays_on_gpus_without_nccl(tmp_path, aware):
    """MPI sums copies on the host, or the arrays themselves: the memory of the stand-in's device is read by any MPI."""
    expected = rank_programs.step("lenet", "float32", Alone())
    for found in ranks.mpi("tests.rank_programs", "step_on_device", size=2, folder=tmp_path, MINIGRAD_BACKEND="cupy", MINIGRAD_CUDA_AWARE_MPI=aware):
        assert_equal(found, expected, 1e-6)


# ------------------------------------------------------------------------------------------------ MPI

@pytest.mark.needs("mpi")
@pytest.mark.parametrize("size", [2, 4])
def test_on_mpi(tmp_path, size):
    expected = rank_programs.derivatives(Alone())
    for found in ranks.mpi("tests.rank_programs", "derivatives", size=size, folder=tmp_path):
        assert_equal(found, expected, 1e-13)


@pytest.mark.needs("mpi")
@pytest.mark.parametrize("size", [2, 4])
def test_algorithm_1_on_mpi(tmp_path, size):
    """Of all models and types, with equal bits on all ranks and from run to run."""
    first, again = (ranks.mpi("tests.rank_programs", "steps", size=size, folder=tmp_path) for _ in range(2))
    expected = rank_programs.steps(Alone())
    for found in [*first, *again]:
        for case in expected:
            assert_equal(found[case], first[0][case], 0.0)
            assert_equal(found[case], expected[case], SCALE[case[1]])


@pytest.mark.needs("mpi")
def test_communicators_of_mpi4py(tmp_path):
    for rank, (pair, world) in enumerate(ranks.mpi("tests.rank_programs", "pairs", size=4, folder=tmp_path)):
        assert pair == [1, 5][rank // 2] and world == 6


@pytest.mark.needs("mpi")
@pytest.mark.parametrize("name, what", [
    ("differ", ["the ranks do not do the same thing", "rank 1: allsum of float64[3]"]),
    ("fail", ["only rank 1 fails"]),
    ("die", []),
    ("sleep", [" has waited 8 s for rank 1, in vain", "MINIGRAD_RANK_TIMEOUT"]),
])
def test_no_failure_hangs(tmp_path, name, what):
    path = tmp_path / "call.pickle"
    path.write_bytes(pickle.dumps(("tests.rank_programs", name, ())))
    start = time.monotonic()
    done = ranks.start(3, "-m", "mpi4py", "-m", "tests.ranks", path, MINIGRAD_RANK_TIMEOUT="8")
    assert done.returncode != 0 and time.monotonic() - start < 100
    assert all(text in done.stderr for text in what), done.stderr


@given(st.integers(0, 20), st.integers(1, 4))
def test_whole_undoes_part(n, size):
    """Also where ranks have different numbers of rows, or none; its pull is the part of the sum over ranks."""
    x, g = np.arange(2.0 * n).reshape(n, 2), np.arange(2.0 * n).reshape(n, 2) ** 2

    def program(comm):
        y, pull = mg.vjp(lambda own: distributed.whole(own, comm), part(x, comm))
        return mg.to_host(y), mg.to_host(pull(g)[0]), len(part(x, comm))
    found = ranks.run(size, program)
    for y, pulled, _ in found:
        np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(np.concatenate([pulled for _, pulled, _ in found]), size * g)
    assert sum(count for *_, count in found) == n


@pytest.mark.parametrize("a, b", [(np.float64(1.0), np.nextafter(1.0, 2.0)), (0.0, -0.0), (np.int64(2 ** 53), np.int64(2 ** 53 + 1)), (np.float32(1e-45), np.float32(0.0)), (np.complex128(1.0), 1.0 + 1e-300j)])
def test_one_bit_of_a_parameter_is_a_difference(a, b):
    first, second = all_errors(2, lambda comm: check_equal({"w": np.ones(3), "x": np.asarray([a, b])[[comm.rank]]}, comm))
    assert first == second and "rank 1 differ" in first


def test_a_rank_that_was_waited_for_in_vain_is_lost():
    """Then the program ends on all ranks, which would wait for ever at its end; else it ends as it is."""
    ended, request = [], types.SimpleNamespace(Test=lambda: False)
    comm = object.__new__(communicators.MPICommunicator)
    communicators.Communicator.__init__(comm, 0, 2)
    comm.comm, comm.timeout, comm._count, comm._where, comm._pending = types.SimpleNamespace(Abort=ended.append), 0.01, 1, {}, []
    comm._end()
    assert not comm.lost and ended == []
    with pytest.raises(RankError, match="rank 0 has waited 0 s for rank 1, in vain"):
        comm._wait(request)
    comm._end()
    assert comm.lost and ended == [1] and comm._pending == [request]        # MPI may still write to what it holds


@pytest.mark.needs("mpi")
def test_messages_of_a_program_are_its_own(tmp_path):
    assert ranks.mpi("tests.rank_programs", "own_messages", size=2, folder=tmp_path) == [None, "mine"]


def test_parts_of_a_mean_add_up_where_ranks_have_different_numbers_of_examples():
    """... to the mean over all examples, and their gradients to its gradient."""
    x, w = np.arange(7.0) ** 2, np.float64(0.5)

    def program(comm):
        own = x[[slice(0, 4), slice(4, 5), slice(5, 7)][comm.rank]]
        part, gradient = mg.value_and_grad(lambda w: distributed.mean_part(mg.exp(w) * own, comm))(w)
        return part, gradient
    for found in zip(*ranks.run(3, program)):
        np.testing.assert_allclose(sum(found), np.exp(w) * x.mean(), rtol=1e-14)


def test_a_rank_that_cannot_tell_its_examples_apart_leaves_no_rank_with_a_gradient():
    """Else the parameters of the ranks would differ from then on."""
    def program(comm):
        x, calls = np.ones((3, 2)), []
        x[0] = np.nan if comm.rank else 1.0

        def losses(p):
            calls.append(None)
            return mg.sum(p * x, axis=1) * (float(len(calls)) if comm.rank else 1.0)        # another one when it runs again
        with np.errstate(all="ignore"):
            return mg.reweighted_gradient(losses, lambda p: mg.sum(p) / comm.size, np.ones(2), comm=comm)
    for r in ranks.run(2, program):
        assert r.not_finite == 1 and not r.gradient.any()
