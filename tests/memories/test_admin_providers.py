"""Provider settings in the admin: a key is entered, kept sealed, and never shown."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.services import create_user
from memories import providers
from memories.models import EmbeddingSpace, ProviderSettings

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("static_files")]

KEY = "sk-entered-once"
ADD = "admin:memories_providersettings_add"
CHANGE = "admin:memories_providersettings_change"
GIVEN = {
    "purpose": "embedder",
    "is_active": "on",
    "kind": "compatible",
    "base_url": "http://localhost:11434/v1",
    "model": "nomic-embed-text",
    "dimensions": "768",
    "batch_size": "64",
    "timeout_ms": "30000",
    "query_budget_ms": "150",
    "requests_a_minute": "0",
}


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(create_user("root", is_staff=True, is_superuser=True))
    return client


def test_a_key_is_kept_sealed_and_not_shown_again(staff: Client) -> None:
    assert staff.post(reverse(ADD), GIVEN | {"new_key": KEY}).status_code == 302
    row = ProviderSettings.objects.get()
    assert KEY not in row.key
    assert providers.opened(row.key) == KEY
    for address in (reverse("admin:memories_providersettings_changelist"), reverse(CHANGE, args=[row.pk])):
        page = staff.get(address)
        assert page.status_code == 200
        assert KEY not in page.content.decode()
        assert row.key not in page.content.decode()
    assert staff.post(reverse(CHANGE, args=[row.pk]), GIVEN | {"dimensions": "512"}).status_code == 302
    row.refresh_from_db()
    assert (row.dimensions, providers.opened(row.key)) == (512, KEY)


def test_a_key_does_not_follow_to_another_address(staff: Client) -> None:
    staff.post(reverse(ADD), GIVEN | {"new_key": KEY})
    row = ProviderSettings.objects.get()
    page = staff.post(reverse(CHANGE, args=[row.pk]), GIVEN | {"base_url": "http://elsewhere.example/v1"})
    assert "Enter the key again" in page.content.decode()
    row.refresh_from_db()
    assert row.base_url == GIVEN["base_url"]


def test_settings_that_cannot_work_are_refused_with_the_reason(staff: Client) -> None:
    page = staff.post(reverse(ADD), GIVEN | {"kind": "openai", "base_url": ""})
    assert "needs a key" in page.content.decode()
    page = staff.post(reverse(ADD), GIVEN | {"new_key": "env:SECRET_KEY"})
    assert "ends in _API_KEY" in page.content.decode()
    assert not ProviderSettings.objects.exists()


def test_spaces_can_be_looked_at(staff: Client) -> None:
    EmbeddingSpace.objects.create(kind="openai", model="text-embedding-3-small", dimensions=512)
    page = staff.get(reverse("admin:memories_embeddingspace_changelist"))
    assert "text-embedding-3-small" in page.content.decode()
    assert staff.get(reverse("admin:memories_embeddingspace_add")).status_code == 403
