"""The garbage collector rests during the first import of what is large, and only then."""

import gc

import pytest

from runs.imports import heavy_imports


@pytest.fixture(autouse=True)
def _as_before():
    gc.unfreeze()  # what pytest has imported
    yield
    gc.enable()
    gc.freeze()


def test_the_collector_rests_and_leaves_out_what_was_imported():
    assert gc.get_freeze_count() == 0
    with heavy_imports("a_package_that_is_not_imported"):
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000


def test_a_failed_import_leaves_the_collector_as_it_was():
    with pytest.raises(ImportError), heavy_imports("a_package_that_is_not_imported"):
        raise ImportError
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)


def test_nothing_happens_a_second_time_or_where_the_collector_is_off():
    with heavy_imports("pytest"):
        assert gc.isenabled()
    gc.disable()
    with heavy_imports("a_package_that_is_not_imported"):
        pass
    assert (gc.isenabled(), gc.get_freeze_count()) == (False, 0)
