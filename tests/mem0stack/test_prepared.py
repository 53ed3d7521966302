"""Statements that are put together once."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction

from accounts.models import ApiKey, User
from mem0stack.lib import prepared
from mem0stack.settings import database
from tests.rest import Caller

pytestmark = pytest.mark.django_db


def test_rows_are_what_the_queryset_gives_every_time() -> None:
    keys = [Caller(name).key for name in ("alice", "bob", "charlie")]
    rows = prepared.Rows(
        lambda pk: ApiKey.objects.filter(pk__in=[pk]).defer("digest").order_by("name", "pk"), keys[0].pk
    )

    for _ in range(5):
        asked = [key.pk for key in keys[:2]]
        found = rows.fetch(asked)
        expected = list(ApiKey.objects.filter(pk__in=asked).order_by("name", "pk"))
        assert found == expected
        assert [(key.scopes, key.created_at, key.user_id) for key in found] == [
            (key.scopes, key.created_at, key.user_id) for key in expected
        ]
        assert found[0].get_deferred_fields() == {"digest"}


def test_values_come_as_tuples() -> None:
    alice = Caller("alice").user
    rows = prepared.Rows(lambda pk: User.objects.filter(pk=pk).values_list("username", "uuid"), 0)

    assert rows.fetch(alice.pk) == [("alice", alice.uuid)]


@pytest.mark.parametrize("stand_ins", [("a", 0), (0,), (0, "a", 1)], ids=str)
def test_stand_ins_that_are_not_the_parameters_in_their_order_are_refused(stand_ins: tuple[object, ...]) -> None:
    rows = prepared.Rows(lambda *given: User.objects.filter(pk=0).filter(username="a"), *stand_ins)

    with pytest.raises(ImproperlyConfigured, match="stand-ins"):
        rows.fetch(*stand_ins)


def test_a_statement_is_prepared_and_survives_an_error_and_another_connection() -> None:
    alice = Caller("alice").user
    rows = prepared.Rows(lambda pk: User.objects.filter(pk=pk).values_list("username"), 0)
    for _ in range(6):
        assert rows.fetch(alice.pk) == [("alice",)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s", ["%accounts_user%"])
        assert cursor.fetchone()[0] >= 1

    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create(username="alice")

    assert rows.fetch(alice.pk) == [("alice",)]


def test_the_owner_prepares_nothing_and_the_service_soon() -> None:
    assert "prepare_threshold" not in database("owner")["OPTIONS"]
    assert database("app")["OPTIONS"]["prepare_threshold"] == 2
