"""How many examples a property gets."""

from hypothesis import settings


def examples(count: int, **others: object) -> settings:
    """Settings for `count` examples of a full run; of `make quick`, the share that its profile leaves."""
    full = settings.get_profile("full").max_examples
    return settings(max_examples=max(1, count * settings.default.max_examples // full), **others)
