"""Arbitrary JSON data, a good config with one bad value, and a check that a reader accepts it or refuses it in one sentence."""

import json
from copy import deepcopy

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TEXTS = st.text(max_size=8) | st.sampled_from(["${oc.env:HOME}", "???", "<b>", "a {}", "q", "end", "_target_", "os.mkdir"])
SCALARS = st.none() | st.booleans() | st.integers() | st.sampled_from([0, 1, 2, 10**400, -1]) | st.floats() | TEXTS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
few = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def changed(config, place, value):
    """A copy of nested mappings with another value at this place, a path of keys."""
    config = deepcopy(config)
    *way, last = place
    part = config
    for key in way:
        part = part[key]
    part[last] = value
    return config


def in_one_sentence(call, *arguments):
    """The call's result, or None after a ValueError in a sentence that a terminal can show. Any other error is a bug."""
    try:
        return call(*arguments)
    except ValueError as error:
        message = str(error)
        assert message
        assert "\n" not in message
        assert "\x1b" not in message
        return None


def dump(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
