"""The admin of accounts: its pages are served, to staff alone, and show no key."""

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from accounts.models import ApiKey, User
from accounts.services import create_api_key, create_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("static_files")]


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(create_user("root", is_staff=True, is_superuser=True))
    return client


@pytest.mark.parametrize("model", [User, ApiKey])
def test_its_pages_are_served(staff: Client, model: type[User] | type[ApiKey]) -> None:
    key, plain = create_api_key(create_user("alice"), name="laptop")
    row = key if model is ApiKey else key.user
    name = f"admin:accounts_{model._meta.model_name}"

    assert model in admin.site._registry
    for address in (
        reverse(f"{name}_changelist"),
        reverse(f"{name}_changelist") + "?q=a",
        reverse(f"{name}_change", args=[row.pk]),
        reverse(f"{name}_history", args=[row.pk]),
    ):
        page = staff.get(address)
        assert page.status_code == 200, address
        assert plain not in page.content.decode()
        assert key.digest.hex() not in page.content.decode()
    assert staff.get(reverse(f"{name}_add")).status_code in (200, 403)


def test_nobody_else_is_let_in() -> None:
    client = Client()
    client.force_login(create_user("alice"))

    assert client.get(reverse("admin:accounts_user_changelist")).status_code == 302


def test_keys_are_revoked_from_their_list(staff: Client) -> None:
    key, _ = create_api_key(create_user("alice"), name="laptop")

    staff.post(
        reverse("admin:accounts_apikey_changelist"),
        {"action": "revoke", "_selected_action": [str(key.pk)]},
        follow=True,
    )

    key.refresh_from_db()
    assert key.revoked_at is not None
