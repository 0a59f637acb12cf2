"""Hypothesis profiles: ci (the default; a fixed seed), dev (few examples), intense (many): pytest --hypothesis-profile=..."""
from hypothesis import HealthCheck, settings

_common = dict(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("ci", max_examples=15, derandomize=True, **_common)
settings.register_profile("dev", max_examples=5, **_common)
settings.register_profile("intense", max_examples=500, **_common)
settings.load_profile("ci")
