"""Arrays in chunks: the same bits for any number of threads, the same values as in one chunk, nothing left behind."""
import concurrent.futures
import contextlib
import os
import subprocess
import sys
import threading
import time
import types
import weakref

import numpy as np
import pytest
import threadpoolctl

import minigrad as mg
from minigrad import nn, reweight, tree
from minigrad.backend import generator
from minigrad.fast import convolution
from minigrad.fast import products as fast_products
from minigrad.fast import threads as th
from minigrad.models import lenet, resnet

pytestmark = pytest.mark.needs("wing")


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks so small that the arrays of a test have many."""
    monkeypatch.setattr(th, "CHUNK", 1 << 12)
    monkeypatch.setattr(convolution, "WINDOWS", 1 << 14)


@pytest.fixture
def threads(monkeypatch):
    """A function that sets the number of threads."""
    def use(count):
        monkeypatch.setattr(th, "threads", lambda: count)
    return use


def step(make):
    rng = generator(0)
    model = make(rng)
    shape = (11, 28, 28, 1) if make is lenet else (11, 16, 16, 3)
    x, x_clean = rng.random(shape, "float32"), rng.random(shape, "float32")
    y = rng.integers(0, 2, 11)
    loss = nn.sigmoid_cross_entropy if make is lenet else nn.cross_entropy
    result = reweight.reweighted_gradient(lambda m: loss(m(x), y), lambda m: mg.mean(loss(m(x_clean), y)), model)
    return tree.flatten((result.gradient, result.weights, result.losses))[0]


@pytest.mark.parametrize("make", [lenet, lambda rng: resnet(rng, 8)], ids=["lenet", "resnet"])
def test_the_number_of_threads_changes_no_bit(make, on_host, small_chunks, threads):
    threads(1)
    one = step(make)
    for count in (2, 3, 8):
        threads(count)
        for _ in range(3):
            for a, b in zip(one, step(make), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [lenet, lambda rng: resnet(rng, 8)], ids=["lenet", "resnet"])
def test_chunks_do_not_change_the_step(make, on_host, small_chunks, monkeypatch):
    many = step(make)
    monkeypatch.setattr(th, "CHUNK", 1 << 30)
    monkeypatch.setattr(convolution, "WINDOWS", 1 << 30)
    for a, b in zip(many, step(make), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("name, shapes", [
    ("add", [(40, 30), (40, 30)]), ("multiply", [(40, 30), (30,)]), ("subtract", [(40, 1), (40, 30)]), ("divide", [(1, 30), (40, 1)]),
    ("maximum", [(40, 30, 2), ()]), ("exp", [(40, 30)]), ("add", [(30,), (40, 5, 30)]), ("add", [(1, 900), (1, 900)])])
def test_functions_of_each_element_in_chunks(name, shapes, small_chunks):
    xs = [np.random.default_rng(0).random(s) for s in shapes]
    y = getattr(mg, name)(*xs)
    np.testing.assert_array_equal(y, getattr(np, name)(*xs))
    y = getattr(mg, name)(*[x.astype("float32") for x in xs])
    assert y.dtype == np.float32 or not all(shapes)         # a 0-d array is no Python number: NumPy widens for it


def test_large_transposed_arrays_and_sums(small_chunks):
    x = np.random.default_rng(0).random((30, 20, 40))
    np.testing.assert_array_equal(mg.add(x.transpose(2, 0, 1), 1.0), x.transpose(2, 0, 1) + 1.0)
    np.testing.assert_allclose(mg.sum_to(x, (40,)), x.sum((0, 1)))
    np.testing.assert_allclose(mg.sum_to(x.transpose(1, 2, 0), (30,)), x.sum((1, 2)))
    np.testing.assert_allclose(fast_products.column_sums(x, x), (x * x).sum((0, 1)))


@pytest.mark.parametrize("n, bytes_each", [(0, 8), (1, 10), (1, 1 << 30), (100, 65536), (7, 1 << 30), (1000, 1), (5, 1 << 19), (3, 0)])
def test_chunks_cover_everything_once_and_fit(n, bytes_each):
    found = th.split(n, bytes_each)
    assert [i for chunk in found for i in range(n)[chunk]] == list(range(n))
    assert all((chunk.stop - chunk.start) * bytes_each <= th.CHUNK or chunk.stop - chunk.start == 1 for chunk in found)
    assert len(found) <= 1 or len({chunk.stop - chunk.start for chunk in found[:-1]}) == 1


def test_an_error_in_any_thread_comes_out_and_the_next_call_works(threads):
    threads(3)
    for bad in (0, 5, 9):
        def work(left):
            for i in left:
                if i == bad:
                    raise ZeroDivisionError(i)
        with pytest.raises(ZeroDivisionError, match=str(bad)):
            th.run(work, list(range(10)))
    assert th.map_chunks(lambda i: i * i, list(range(10))) == [i * i for i in range(10)]


def test_an_error_in_a_helper_comes_out_where_the_caller_has_none(threads):
    threads(2)
    caller, begun = threading.current_thread(), threading.Event()

    def work(left):
        if threading.current_thread() is not caller:
            begun.set()
            raise ZeroDivisionError
        assert begun.wait(60)
    with pytest.raises(ZeroDivisionError):
        th.run(work, [0, 1])


def test_the_settings_of_numpy_hold_in_the_threads(threads, small_chunks):
    threads(4)
    with np.errstate(over="ignore"):
        assert np.isinf(mg.exp(np.full((64, 64), 1e4))).all()
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        mg.exp(np.full((64, 64), 1e4))


def test_blas_has_one_thread_inside_and_what_it_had_outside(threads):
    threads(2)
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        assert {n for inside in th.map_chunks(lambda i: blas_threads(), list(range(4))) for n in inside} == {1}
        assert blas_threads() == before
        with pytest.raises(ZeroDivisionError):
            th.map_chunks(lambda i: 1 // 0, [0])
        assert blas_threads() == before
        start = threading.Barrier(2)

        def both(i):                                        # two callers whose work overlaps
            start.wait()
            th.map_chunks(lambda i: blas_threads(), list(range(200)))
        callers = [threading.Thread(target=both, args=(i,)) for i in range(2)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert blas_threads() == before


def test_an_interrupt_on_the_way_in_leaves_blas_as_it_was(threads):
    """Ctrl-C may come at any line: here, as each line of __enter__ begins, and of what it calls."""
    threads(2)
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before, code = blas_threads(), th._OneBlasThread.__enter__.__code__
        for line in range(code.co_firstlineno + 1, max(number for *_, number in code.co_lines() if number) + 1):
            def interrupt(frame, event, arg, line=line):
                if event == "line" and frame.f_lineno == line:
                    raise KeyboardInterrupt
                return interrupt
            old = sys.gettrace()
            sys.settrace(lambda frame, event, arg, interrupt=interrupt: interrupt if frame.f_code is code else None)
            try:
                with contextlib.suppress(KeyboardInterrupt), th.one_blas_thread:
                    pass
            finally:
                sys.settrace(old)
            assert blas_threads() == before and (th._own.depth, th.one_blas_thread.inside) == (0, 0), line
            with th.one_blas_thread:
                assert set(blas_threads()) == {1}
            assert blas_threads() == before


def in_a_thread(f, *args):
    """What f(*args) gives in a thread of its own; its error is raised here."""
    with concurrent.futures.ThreadPoolExecutor(1) as one:
        return one.submit(f, *args).result(60)


def products(dtype):
    """Products of every form that BLAS has a routine for, with their gradients."""
    rng = np.random.default_rng(0)
    for a, b in [((300, 300), (300, 300)), ((30, 40), (40, 50)), ((2, 3, 70, 60), (3, 60, 50)), ((2, 500, 40), (40, 50)), ((3, 1, 4000), (4000, 1)),
                 ((20_000,), (20_000,)), ((5000, 3), (3,)), ((5000,), (5000, 3)), ((1, 20_000), (20_000, 2)), ((2, 20_000), (20_000, 1))]:
        a, b = (rng.normal(size=s).astype(dtype) for s in (a, b))
        y, pull = mg.vjp(mg.matmul, a, b)
        yield y
        yield from pull(y)
    x = rng.normal(size=(300, 200)).astype(dtype)
    yield from (mg.matmul(x, x.T), mg.matmul(x.T, x), mg.matmul(x + 1j * x, x.T), mg.tensordot(x, x, 2), mg.sum_to(x, (200,)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_threads_of_blas_change_no_bit(dtype, monkeypatch):
    """However many they are when an operation begins, and whichever thread it runs in."""
    monkeypatch.setattr(fast_products, "CHUNK", 1 << 18)
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        expected = list(products(dtype))
    for count in (2, 3):
        with threadpoolctl.threadpool_limits(count, user_api="blas"):
            for found in (list(products(dtype)), in_a_thread(lambda: list(products(dtype)))):
                for a, b in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(a, b)


def blas_threads():
    """Of all that is loaded but SciPy's own, which comes late, if it comes, and works on none of our arrays."""
    return [library["num_threads"] for library in threadpoolctl.threadpool_info()
            if library["user_api"] == "blas" and "scipy.libs" not in library["filepath"]]


def test_blas_can_be_held_by_any_thread_one_after_the_other():
    """threadpoolctl 3.8 lets but the first thread that sets a limit set another one."""
    def held():
        with th.one_blas_thread:
            return blas_threads()
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        for here in (lambda: held(), lambda: in_a_thread(held), lambda: in_a_thread(in_a_thread, held), lambda: held()):
            assert set(here()) == {1} and blas_threads() == before


def test_a_blas_whose_threads_are_counted_for_each_thread(monkeypatch):
    """OpenBLAS with OpenMP: the helpers hold it for themselves, and the caller puts back what it had."""
    counts = threading.local()
    setting = (lambda: getattr(counts, "now", 4)), (lambda n: setattr(counts, "now", n))
    monkeypatch.setattr(th, "_blas", lambda: ([], [setting]))
    monkeypatch.setattr(th, "_helpers", th._Helpers())          # threads that begin with this BLAS
    monkeypatch.setattr(th, "threads", lambda: 3)
    setting[1](5)
    seen = th.map_chunks(lambda i: (threading.get_ident(), setting[0](), time.sleep(0.01)), list(range(12)))
    assert {count for _, count, _ in seen} == {1} and len({ident for ident, _, _ in seen}) > 1
    assert setting[0]() == 5 and in_a_thread(setting[0]) == 4


@pytest.mark.parametrize("layer, of_thread", [("openmp", True), ("pthreads", False)])
def test_which_blas_counts_for_each_thread(layer, of_thread, monkeypatch):
    library = types.SimpleNamespace(internal_api="openblas", threading_layer=layer, dynlib=None, get_num_threads=lambda: 2,
                                    set_num_threads=lambda count: None)
    controller = types.SimpleNamespace(select=lambda user_api: types.SimpleNamespace(lib_controllers=[library]))
    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", lambda: controller)
    setting = (library.get_num_threads, library.set_num_threads)
    assert th._blas.__wrapped__() == (([], [setting]) if of_thread else ([setting], []))


def test_chunks_inside_of_chunks(threads):
    """They wait for nobody: several callers whose chunks ask for chunks, which ask again."""
    threads(2)

    def inner(i, depth=2):
        return sum(th.map_chunks(lambda j: inner(j, depth - 1) if depth else time.sleep(0.0005) or i * j, list(range(3))))
    expected = [inner(i) for i in range(4)]
    with concurrent.futures.ThreadPoolExecutor(3) as callers:
        for found in [callers.submit(th.map_chunks, inner, list(range(4))) for _ in range(3)]:
            assert found.result(60) == expected


def test_without_a_thread_that_can_be_started_the_caller_does_it_all(threads, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")
    threads(4)
    monkeypatch.setattr(th, "_helpers", th._Helpers())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert th.map_chunks(lambda i: i * i, list(range(10))) == [i * i for i in range(10)]
    assert th._helpers.started == 0 and th._helpers.jobs.empty()


def test_each_thread_has_its_own_scratch():
    x = np.ones(1, "float32")
    mine = th.scratch("test", (3, 4), x)
    assert mine.shape == (3, 4) and mine.dtype == np.float32
    again = th.scratch("test", (2,), np.ones(1))
    assert np.shares_memory(mine, again)
    others = []
    thread = threading.Thread(target=lambda: others.append(th.scratch("test", (3, 4), x)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, others[0])


def run(program, **environment):
    return subprocess.run([sys.executable, "-c", program], env={**os.environ, "MINIGRAD_BACKEND": "numpy", **environment},
                          capture_output=True, text=True, timeout=120)


def test_the_environment_sets_the_number_of_threads(monkeypatch):
    read = th.threads.__wrapped__
    for given, count in (("3", 3), (" 1 ", 1), ("", len(os.sched_getaffinity(0)))):
        monkeypatch.setenv("MINIGRAD_THREADS", given)
        assert read() == count
    for wrong in ("0", "two", "-1", "²"):
        monkeypatch.setenv("MINIGRAD_THREADS", wrong)
        with pytest.raises(mg.BackendError, match=f"MINIGRAD_THREADS='{wrong}' is not a number of threads"):
            read()
    assert run("from minigrad.fast import threads as th; print(th.threads())", MINIGRAD_THREADS="3").stdout.strip() == "3"


FORKS = """
import os, numpy as np, minigrad as mg
from minigrad.fast import threads as th
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


FORKS_LOCKED = """
import importlib, os, pkgutil, threading, minigrad
kinds, found = (type(threading.Lock()), type(threading.RLock())), {}
for module in [importlib.import_module(each.name) for each in pkgutil.walk_packages(minigrad.__path__, "minigrad.") if "__main__" not in each.name]:
    for name, value in list(vars(module).items()):
        own = vars(value).items() if type(value).__module__.startswith("minigrad") and hasattr(value, "__dict__") else ()
        for where, key, lock in [(vars(module), name, value), *[(vars(value), key, lock) for key, lock in own]]:
            if isinstance(lock, kinds):
                found[id(lock)] = where, key
for where, key in found.values():
    held, leave = threading.Event(), threading.Event()
    def hold():
        with where[key]:
            held.set(), leave.wait()
    holder = threading.Thread(target=hold)
    holder.start(), held.wait()
    if not os.fork():
        os._exit(not where[key].acquire(timeout=5))
    print(key, os.wait()[1])
    leave.set(), holder.join()
"""


@pytest.mark.needs("fork")
def test_no_lock_of_the_parent_is_held_in_a_forked_child():
    """By a thread that is not there: whoever waits for it waits for ever."""
    result = run(FORKS_LOCKED)
    assert sorted(result.stdout.split("\n")[:-1]) == ["_lock 0", "lock 0", "lock 0"], result.stdout + result.stderr


FORKS_INSIDE = """
import os, threading, time, threadpoolctl, numpy as np
from minigrad.fast import threads as th
def counts():
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
def child_says():
    read, write = os.pipe()
    if not os.fork():
        inside = counts()
        th.map_chunks(lambda i: counts(), [0, 1, 2])
        os.write(write, repr((inside, counts())).encode())
        os._exit(0)
    os.wait()
    return eval(os.read(read, 1000))
before, one = counts(), [1] * len(counts())
entered, leave = threading.Event(), threading.Event()
other = threading.Thread(target=lambda: th.map_chunks(lambda i: (entered.set(), leave.wait()), [0]))
other.start()
entered.wait()
assert counts() == one and child_says() == (before, before)             # while another thread is inside
leave.set()
other.join()
assert counts() == before
(inside,) = th.map_chunks(lambda i: child_says(), [0])                    # from inside: there it is still held
assert inside == (one, one) and counts() == before
print("fine", before)
"""


@pytest.mark.needs("fork")
def test_a_child_forked_inside_gets_its_blas_threads_back():
    result = run(FORKS_INSIDE, MINIGRAD_THREADS="2", OPENBLAS_NUM_THREADS="2", PYTHONWARNINGS="ignore")
    assert result.stdout.startswith("fine"), result.stderr


AT_EXIT = """
import atexit, numpy as np, minigrad as mg
x = np.ones((400, 2000))
if {first}: mg.exp(x)
def last():
    try: print("fine", mg.exp(x)[0, 0])
    except BaseException as error: print("raw", type(error).__name__, error)
atexit.register(last)
"""


@pytest.mark.parametrize("first", [True, False], ids=["threads run", "threads would start"])
def test_operations_while_the_interpreter_ends(first):
    assert run(AT_EXIT.format(first=first), MINIGRAD_THREADS="2").stdout.startswith("fine 2.718")


KEEPS = """
import resource, numpy as np, minigrad
def faults():
    for _ in range(3): [np.ones(1 << 18) for _ in range(20)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [np.ones(1 << 18) for _ in range(20)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), minigrad.fast.memory.keep_memory())
"""


@pytest.mark.needs("glibc")
def test_freed_memory_is_kept_unless_it_is_not_wanted():
    faults, possible = run(KEEPS).stdout.split()
    assert possible == "True" and int(faults) < 1000 < int(run(KEEPS, MINIGRAD_KEEP_MEMORY="0").stdout.split()[0])


@pytest.mark.parametrize("n, k, m", [(90, 70, 50), (50, 70, 90), (1, 600, 600), (600, 600, 1), (7, 100_000, 1)])
def test_large_products_in_chunks(n, k, m, threads, monkeypatch):
    monkeypatch.setattr(fast_products, "CHUNK", 1 << 14)
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


#import: import weakref


def test_a_helper_that_waits_holds_nothing(threads):
    """The arrays of its last job are freed, however long the next one is in coming."""
    threads(3)

    def use():
        x = np.ones(10)
        th.map_chunks(lambda i: (time.sleep(0.002), x[i]), list(range(10)))
        return weakref.ref(x)
    held, end = use(), time.monotonic() + 10.0
    while held() is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert held() is None


def test_an_error_of_the_caller_comes_out_when_nobody_works_any_more(threads):
    threads(3)
    caller, begun, busy = threading.current_thread(), threading.Event(), []

    def work(left):
        if threading.current_thread() is caller:
            assert begun.wait(60)
            raise ZeroDivisionError
        busy.append(None)
        begun.set()
        time.sleep(0.2)
        busy.pop()
    with pytest.raises(ZeroDivisionError):
        th.run(work, [0, 1, 2])
    assert not busy


@pytest.mark.parametrize("a, b", [("float32", "float64"), ("float64", "float32"), ("float32", "float32"), ("int64", "float32"), ("float32", "complex64"), ("float16", "float32")])
@pytest.mark.parametrize("shapes", [((90, 70), (70, 50)), ((50, 70), (70, 90)), ((9, 30, 20), (20, 25)), ((20, 30), (9, 30, 25))])
def test_large_products_of_two_types_have_numpys(a, b, shapes, monkeypatch):
    monkeypatch.setattr(fast_products, "CHUNK", 1 << 12)
    rng = np.random.default_rng(0)
    a, b = rng.integers(-3, 4, shapes[0]).astype(a), rng.integers(-3, 4, shapes[1]).astype(b)
    y, expected = mg.matmul(a, b), np.matmul(a, b)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


FORKS_LATER = """
import os, threadpoolctl, numpy as np
from minigrad.fast import threads as th
def counts():
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}
first = counts()
th.map_chunks(lambda i: i, [0, 1, 2])
again = counts()
threadpoolctl.threadpool_limits(1, user_api="blas")
child = os.fork()
if not child:
    os._exit(0 if counts() == {1} else 1)
print(first == again == {2}, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.needs("fork")
def test_a_child_has_the_blas_threads_of_its_parent():
    """... of the moment of the fork, not those that were put back some time before."""
    result = run(FORKS_LATER, MINIGRAD_THREADS="2", OPENBLAS_NUM_THREADS="2", PYTHONWARNINGS="ignore")
    assert result.stdout.strip() == "True 0", result.stdout + result.stderr
