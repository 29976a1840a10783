"""A check for readers of foreign files: they return plain data, or raise one short sentence, fast and with little memory."""

import io
import time
import tracemalloc

import PIL.Image
from hypothesis import HealthCheck, settings

few = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, database=None
)


def one_sentence(call, *arguments, **named):
    """What is refused is refused by a short ValueError of one line, at once and without much memory; or the call's result."""
    tracemalloc.start()
    started = time.process_time()
    try:
        return call(*arguments, **named)
    except ValueError as error:
        text = str(error)
        assert text
        assert "\n" not in text
        assert len(text) < 1500
        assert all(ord(c) >= 32 and not 127 <= ord(c) < 160 for c in text)
        return error
    finally:
        assert time.process_time() - started < 5
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
        tracemalloc.stop()


def refused(call, *arguments, **named) -> str:
    error = one_sentence(call, *arguments, **named)
    assert isinstance(error, ValueError), f"accepted: {type(error).__name__}"
    return str(error)


def png(size=(4, 3), **options) -> bytes:
    content = io.BytesIO()
    PIL.Image.new("RGB", size, (9, 8, 7)).save(content, "PNG", **options)
    return content.getvalue()
