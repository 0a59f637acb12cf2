"""Clocks for steps: the host's, or events that a device records between steps."""
import statistics
import time

import minigrad as mg

TURN = {False: 0.2, True: 0.1}              # seconds that the steps of a turn take: on the host, on a device


def on_host(step, times, wait=lambda result: None):
    """Return the seconds that `times` steps take by the host's clock; wait(last result) blocks until all are done."""
    start = time.perf_counter()
    for _ in range(times):
        result = step()
    wait(result)
    return time.perf_counter() - start


def by_events(event, milliseconds):
    """Return a clock like `on_host`; event() makes an event of the device, milliseconds(a, b) measures between two."""
    def elapsed(step, times):
        start, end = event(), event()
        start.record()
        for _ in range(times):
            step()
        end.record()
        end.synchronize()
        return milliseconds(start, end) / 1e3
    return elapsed


def of_cupy():
    """Return the clock of CuPy's device."""
    return by_events(mg.xp.cuda.Event, mg.xp.cuda.get_elapsed_time)


def turn(step, elapsed, gpu=False):
    """Return the seconds of a step, after one that is not counted: another library used the machine before.

    On the host, the median of single steps. On a device, the mean of as many steps as fit in a turn, between two
    events: so the host may run ahead as it does in training.
    """
    elapsed(step, 1)
    times = [elapsed(step, 1)]
    if gpu:
        several = int(TURN[gpu] / times[0])
        return elapsed(step, several) / several if several > 1 else times[0]
    while sum(times) < TURN[gpu]:
        times.append(elapsed(step, 1))
    return statistics.median(times)
