"""What the C library does with the memory of freed arrays."""
import ctypes


def keep_memory() -> bool:
    """Let the C library reuse the memory of freed arrays for the next ones, instead of returning it to the system.

    A training step frees and allocates the same few hundred megabytes again. If they are returned in between, they
    come back as tens of thousands of page faults, which take a tenth of the step and more. This works with glibc and
    does nothing elsewhere. It is called when minigrad is imported, unless MINIGRAD_KEEP_MEMORY=0. Return whether it
    was done.
    """
    trim_threshold, mmap_threshold = -1, -3                 # of mallopt(3); 32 MB is the most that the second may be
    try:
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(mmap_threshold, 32 << 20) and mallopt(trim_threshold, (1 << 31) - 1))
    except (OSError, AttributeError, TypeError):            # another C library
        return False
