"""Arrays in pieces: the same bits for any number of threads, the same values as in one piece, nothing left behind."""
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import threadpoolctl

import minigrad as mg
from minigrad import nn, pieces, reweight, tree
from minigrad.backend import seed
from models import lenet, resnet


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces so small that the arrays of a test have many."""
    monkeypatch.setattr(pieces, "PIECE", 1 << 12)
    monkeypatch.setattr(mg.ops.convolution, "WINDOWS", 1 << 14)


@pytest.fixture
def threads(monkeypatch):
    """A function that sets the number of threads."""
    def use(count):
        monkeypatch.setattr(pieces, "threads", lambda: count)
        pieces._pool.cache_clear()
    yield use
    pieces._pool.cache_clear()


def step(make):
    rng = seed(0)
    model = make(rng)
    shape = (11, 28, 28, 1) if make is lenet else (11, 16, 16, 3)
    x, x_clean = rng.random(shape, "float32"), rng.random(shape, "float32")
    y = rng.integers(0, 2, 11)
    loss = nn.sigmoid_cross_entropy if make is lenet else nn.cross_entropy
    result = reweight.reweighted_gradient(lambda m: loss(m(x), y), lambda m: mg.mean(loss(m(x_clean), y)), model)
    return tree.flatten((result.gradient, result.weights, result.losses))[0]


@pytest.mark.parametrize("make", [lenet, lambda rng: resnet(rng, 8)], ids=["lenet", "resnet"])
def test_the_number_of_threads_changes_no_bit(make, small_pieces, threads):
    threads(1)
    one = step(make)
    for count in (2, 3, 8):
        threads(count)
        for _ in range(3):
            for a, b in zip(one, step(make), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [lenet, lambda rng: resnet(rng, 8)], ids=["lenet", "resnet"])
def test_pieces_do_not_change_the_step(make, small_pieces, monkeypatch):
    many = step(make)
    monkeypatch.setattr(pieces, "PIECE", 1 << 30)
    monkeypatch.setattr(mg.ops.convolution, "WINDOWS", 1 << 30)
    for a, b in zip(many, step(make), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("name, shapes", [
    ("add", [(40, 30), (40, 30)]), ("multiply", [(40, 30), (30,)]), ("subtract", [(40, 1), (40, 30)]), ("divide", [(1, 30), (40, 1)]),
    ("maximum", [(40, 30, 2), ()]), ("exp", [(40, 30)]), ("add", [(30,), (40, 5, 30)]), ("add", [(1, 900), (1, 900)])])
def test_functions_of_each_element_in_pieces(name, shapes, small_pieces):
    xs = [np.random.default_rng(0).random(s) for s in shapes]
    y = getattr(mg, name)(*xs)
    np.testing.assert_array_equal(y, getattr(np, name)(*xs))
    y = getattr(mg, name)(*[x.astype("float32") for x in xs])
    assert y.dtype == np.float32 or not all(shapes)         # a 0-d array is no Python number: NumPy widens for it


def test_large_transposed_arrays_and_sums(small_pieces):
    x = np.random.default_rng(0).random((30, 20, 40))
    np.testing.assert_array_equal(mg.add(x.transpose(2, 0, 1), 1.0), x.transpose(2, 0, 1) + 1.0)
    np.testing.assert_allclose(mg.sum_to(x, (40,)), x.sum((0, 1)))
    np.testing.assert_allclose(mg.sum_to(x.transpose(1, 2, 0), (30,)), x.sum((1, 2)))
    np.testing.assert_allclose(pieces.column_sums(x, x), (x * x).sum((0, 1)))


@pytest.mark.parametrize("n, bytes_each", [(0, 8), (1, 10), (1, 1 << 30), (100, 65536), (7, 1 << 30), (1000, 1), (5, 1 << 19), (3, 0)])
def test_pieces_cover_everything_once_and_fit(n, bytes_each):
    found = pieces.cut(n, bytes_each)
    assert [i for piece in found for i in range(n)[piece]] == list(range(n))
    assert all((piece.stop - piece.start) * bytes_each <= pieces.PIECE or piece.stop - piece.start == 1 for piece in found)
    assert len(found) <= 1 or len({piece.stop - piece.start for piece in found[:-1]}) == 1


def test_an_error_in_any_thread_comes_out_and_the_next_call_works(threads):
    threads(3)
    for bad in (0, 5, 9):
        def work(left):
            for i in left:
                if i == bad:
                    raise ZeroDivisionError(i)
        with pytest.raises(ZeroDivisionError, match=str(bad)):
            pieces.share(work, list(range(10)))
    assert pieces.each(lambda i: i * i, list(range(10))) == [i * i for i in range(10)]


def test_the_settings_of_numpy_hold_in_the_threads(threads, small_pieces):
    threads(4)
    with np.errstate(over="ignore"):
        assert np.isinf(mg.exp(np.full((64, 64), 1e4))).all()
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        mg.exp(np.full((64, 64), 1e4))


def test_blas_has_one_thread_inside_and_what_it_had_outside(threads):
    def counts():
        return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    threads(2)
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = counts()
        assert {n for inside in pieces.each(lambda i: counts(), list(range(4))) for n in inside} == {1}
        assert counts() == before
        with pytest.raises(ZeroDivisionError):
            pieces.each(lambda i: 1 // 0, [0])
        assert counts() == before
        start = threading.Barrier(2)

        def both(i):                                        # two callers whose work overlaps
            start.wait()
            pieces.each(lambda i: counts(), list(range(200)))
        callers = [threading.Thread(target=both, args=(i,)) for i in range(2)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert counts() == before


def test_each_thread_has_its_own_scratch():
    x = np.ones(1, "float32")
    mine = pieces.scratch("test", (3, 4), x)
    assert mine.shape == (3, 4) and mine.dtype == np.float32
    again = pieces.scratch("test", (2,), np.ones(1))
    assert np.shares_memory(mine, again)
    others = []
    thread = threading.Thread(target=lambda: others.append(pieces.scratch("test", (3, 4), x)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, others[0])


def run(program, **environment):
    return subprocess.run([sys.executable, "-c", program], env={**os.environ, "MINIGRAD_BACKEND": "numpy", **environment},
                          capture_output=True, text=True, timeout=120)


def test_the_environment_sets_the_number_of_threads():
    program = "from minigrad import pieces; print(pieces.threads())"
    assert run(program, MINIGRAD_THREADS="3").stdout.strip() == "3"
    assert run(program, MINIGRAD_THREADS="").stdout.strip() == str(len(os.sched_getaffinity(0)))
    for wrong in ("0", "two", "-1"):
        assert f"MINIGRAD_THREADS='{wrong}' is not a number of threads" in run(program, MINIGRAD_THREADS=wrong).stderr


FORKS = """
import os, numpy as np, minigrad as mg
from minigrad import pieces
x = np.ones((8, 1 << 20), "float32")
mg.exp(x)
child = os.fork()
y = mg.exp(x)
if child == 0:
    os._exit(0 if (y == np.exp(x)).all() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.needs("fork")
def test_a_forked_child_has_threads_of_its_own():
    result = run(FORKS, MINIGRAD_THREADS="2")
    assert result.stdout.strip() == "0", result.stderr


KEEPS = """
import resource, numpy as np, minigrad
def faults():
    for _ in range(3): [np.ones(1 << 18) for _ in range(20)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [np.ones(1 << 18) for _ in range(20)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), minigrad.backend.keep_memory())
"""


@pytest.mark.needs("glibc")
def test_freed_memory_is_kept_unless_it_is_not_wanted():
    faults, possible = run(KEEPS).stdout.split()
    assert possible == "True" and int(faults) < 1000 < int(run(KEEPS, MINIGRAD_KEEP_MEMORY="0").stdout.split()[0])


@pytest.mark.parametrize("n, k, m", [(90, 70, 50), (50, 70, 90), (1, 600, 600), (600, 600, 1), (7, 100_000, 1)])
def test_large_products_in_pieces(n, k, m, threads, monkeypatch):
    products = mg.ops.products
    monkeypatch.setattr(products, "LARGE", 1 << 10)
    monkeypatch.setattr(products, "PIECE", 1 << 14)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(n, k)), rng.normal(size=(k, m)).astype("float32")
    found = []
    for count in (1, 3):
        threads(count)
        found.append(mg.matmul(a, b))
        assert found[-1].dtype == np.float64
        np.testing.assert_allclose(found[-1], a @ b, atol=1e-10)
        np.testing.assert_allclose(mg.matmul(a.T.copy().T, np.asfortranarray(b)), a @ b, atol=1e-10)
    np.testing.assert_array_equal(*found)
