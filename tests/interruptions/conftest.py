"""The runs that nothing disturbs, for all tests of this folder."""

import pytest
from disturbed import outcome_of


@pytest.fixture(scope="session")
def undisturbed(forks, tmp_path_factory):
    """The outcome of undisturbed runs, each made once."""
    results = {}

    def of(*overrides):
        if overrides not in results:
            folder = tmp_path_factory.mktemp("whole")
            assert forks.run(folder, *overrides) == 0, (folder / "log").read_text()
            results[overrides] = outcome_of(folder / "outputs")
        return results[overrides]

    return of
