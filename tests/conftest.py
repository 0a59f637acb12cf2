"""The suite runs on NumPy unless MINIGRAD_BACKEND says otherwise, with a Hypothesis profile.

    pytest                                                          the ci profile: a fixed seed
    pytest --hypothesis-profile=dev | intense                       few examples | many
    MINIGRAD_BACKEND=cupy pytest tests/ops/test_laws.py -k laws     the laws on a GPU
"""
import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("MINIGRAD_BACKEND", "numpy")      # before minigrad is imported: most tests make NumPy arrays

_common = dict(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("ci", max_examples=15, derandomize=True, **_common)
settings.register_profile("dev", max_examples=5, **_common)
settings.register_profile("intense", max_examples=500, **_common)
settings.load_profile("ci")
