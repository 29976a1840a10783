"""One process to fork runs from, and the runs that nothing disturbs, for all tests of this folder."""

import pytest
from disturbed import outcome_of
from forked import Forks


@pytest.fixture(scope="session")
def forks():
    server = Forks()
    yield server
    server.close()


@pytest.fixture(scope="session")
def undisturbed(forks, tmp_path_factory):
    """What runs that nothing disturbs leave; each is made once."""
    found = {}

    def of(*overrides):
        if overrides not in found:
            folder = tmp_path_factory.mktemp("whole")
            assert forks.run(folder, *overrides) == 0, (folder / "log").read_text()
            found[overrides] = outcome_of(folder / "outputs")
        return found[overrides]

    return of
