"""How long steps take: by the clock of the host, or by events that a device notes between them."""
import math
import statistics
import time

TURN = {False: 0.2, True: 0.1}              # seconds of steps in a turn: on the host, on a device


def on_host(step, times, wait=lambda result: None):
    """Seconds of so many steps by the host's clock; wait(what the last step gave) until all is done."""
    start = time.perf_counter()
    for _ in range(times):
        result = step()
    wait(result)
    return time.perf_counter() - start


def by_events(event, milliseconds):
    """A clock: event() makes an event of the device, milliseconds(a, b) gives the time between two of them."""
    def elapsed(step, times):
        start, end = event(), event()
        start.record()
        for _ in range(times):
            step()
        end.record()
        end.synchronize()
        return milliseconds(start, end) / 1e3
    return elapsed


def turn(step, elapsed, gpu=False):
    """Seconds of a step, after one that is not counted, as others had the machine before.

    On the host the median of single steps; on a device as many as fit a turn go between two events, so that the host
    may run ahead as it does in training.
    """
    elapsed(step, 1)
    times = [elapsed(step, 1)]
    if gpu:
        several = math.floor(TURN[gpu] / times[0])
        return elapsed(step, several) / several if several > 1 else times[0]
    while sum(times) < TURN[gpu]:
        times.append(elapsed(step, 1))
    return statistics.median(times)
