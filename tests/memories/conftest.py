"""Three people: Alice owns, Bob is given a share, Charlie is a stranger."""

import pytest

from accounts.actors import Actor
from accounts.services import create_user


@pytest.fixture
def alice(db: None) -> Actor:
    return Actor.of(create_user("alice"), door="rest")


@pytest.fixture
def bob(db: None) -> Actor:
    return Actor.of(create_user("bob"), door="rest")


@pytest.fixture
def charlie(db: None) -> Actor:
    return Actor.of(create_user("charlie"), door="rest")
