"""How many examples a fuzz test tries: always the same few; scripts/fuzz.py brings new ones again and again (profile `long`)."""

from datetime import timedelta

from hypothesis import HealthCheck, settings

_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture,
           HealthCheck.large_base_example, HealthCheck.differing_executors]
DEADLINE = timedelta(seconds=20)  # for one example: far more than a busy machine needs, far less than a hang


def examples(count: int) -> settings:
    """Settings of a test that tries so many examples."""
    return settings(max_examples=count, deadline=DEADLINE, suppress_health_check=_CHECKS)


FUZZ, SLOW = examples(40), examples(25)
