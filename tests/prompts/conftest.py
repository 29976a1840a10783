import pytest
from sizes import RESNET, SMALL

from prompts.engine.clip import FrozenCLIP, build


@pytest.fixture(scope="session")
def small_clip() -> FrozenCLIP:
    return FrozenCLIP(build(SMALL))


@pytest.fixture(scope="session")
def resnet_clip() -> FrozenCLIP:
    return FrozenCLIP(build(RESNET))
