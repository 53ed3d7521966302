"""The admin of memories: what staff see, that it is recorded, and that they write by the services alone."""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import services as accounts
from accounts.actors import Actor, acting_as
from accounts.models import User
from memories import outbox, services
from memories.models import (
    AccessLog,
    App,
    Category,
    EmbeddingSpace,
    Memory,
    MemoryCategory,
    MemoryEmbedding,
    MemoryHistory,
    MemoryTerm,
    Mention,
    OutboxDelivery,
    OwnerStatistics,
    OwnerTerm,
    ProviderSettings,
    Relation,
    Share,
)
from memories.search import search
from memories.services import NewMemory
from tests.people import People, Space, fill, snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("static_files")]

# Rows that have no page, each with the reason.
WITHOUT_PAGE = {
    MemoryCategory: "shown and changed on the memory's page",
    MemoryEmbedding: "a provider's vectors, which follow from the text",
    MemoryTerm: "postings, which follow from the text",
    Mention: "shown on the entity's page",
    OwnerStatistics: "counted by the worker",
    OwnerTerm: "counted by the worker",
}
# Nobody's rows, with tests of their own in test_admin_providers.py.
OF_THE_INSTANCE = {EmbeddingSpace, ProviderSettings}
MODELS = sorted(
    (
        model
        for model in apps.get_app_config("memories").get_models()
        if model not in WITHOUT_PAGE and model not in OF_THE_INSTANCE
    ),
    key=lambda model: model.__name__,
)
WITH_TEXT = {"Memory", "MemoryHistory", "Feedback", "Entity"}


@pytest.fixture
def alices(people: People) -> Space:
    return fill(people.alice, people.bob)


@pytest.fixture
def root(people: People) -> User:
    return accounts.create_user("root", is_staff=True, is_superuser=True)


@pytest.fixture
def staff(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


def clerk(*rights: str) -> Client:
    """A member of staff with these rights alone."""
    user = accounts.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client = Client()
    client.force_login(user)
    return client


def address(model: Any, page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:memories_{model._meta.model_name}_{page}", args=args)


def first(model: Any, owner: Any) -> Any:
    with acting_as(Actor.system("test")):
        return model._default_manager.filter(owner_id=owner.id).order_by("pk").first()


def memory(memory_id: UUID) -> Any:
    with acting_as(Actor.system("test")):
        return Memory.objects.with_names().get(id=memory_id)


def views(alices: Space, by: str = "root") -> list[UUID]:
    """The memories of Alice's that the log says this member of staff was shown, since `fill`."""
    with acting_as(alices.owner.actor):
        found = AccessLog.objects.filter(accessed_by__username=by, action="staff_view").order_by("id")
        return list(found.values_list("memory_id", flat=True))


def form_data(page: Any, **changes: Any) -> dict[str, Any]:
    """What a browser would send of a change page when only these fields are touched."""
    form = page.context["adminform"].form
    data: dict[str, Any] = {}
    for name in form.fields:
        value = form[name].value()
        if hasattr(form.fields[name].widget, "decompress"):
            parts = form.fields[name].widget.decompress(value)
            for place, part in enumerate(parts):
                data[f"{name}_{place}"] = "" if part is None else part.isoformat()
        elif value is True or (value not in (None, False) and value != ""):
            data[name] = value
    return data | changes


def save(client: Client, memory_id: UUID, **changes: Any) -> Any:
    path = address(Memory, "change", memory_id)
    return client.post(path, form_data(client.get(path), **changes), follow=True)


def errors(page: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = page.context["adminform"].form.errors
    return found


def told(page: Any) -> list[str]:
    return [str(message) for message in page.context["messages"]]


# Pages -----------------------------------------------------------------------------------------------------------


def test_every_model_has_its_page_or_a_reason() -> None:
    registered = {model for model in admin.site._registry if model._meta.app_label == "memories"}
    assert registered == {*MODELS, *OF_THE_INSTANCE}
    assert not registered & set(WITHOUT_PAGE)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_lists_and_pages_are_served_from_this_machine_alone(model: Any, staff: Client, alices: Space) -> None:
    row = first(model, alices.owner)
    listed = address(model)
    for path in (listed, f"{listed}?owner=alice", f"{listed}?q={row.pk}", f"{listed}?owner=alice&q=x", f"{listed}?p=2"):
        page = staff.get(path)
        assert page.status_code == 200, path
        assert re.findall(r'(?:src|href|action)="(?:https?:)?//[^"]*"', page.content.decode()) == []
    assert str(row.pk) in staff.get(f"{listed}?q={row.pk}").content.decode()
    assert str(row.pk) in staff.get(f"{listed}?owner=alice&q={row.pk}").content.decode()
    assert str(row.pk) not in staff.get(f"{listed}?owner=charlie").content.decode()
    assert str(row.pk) not in staff.get(f"{listed}?owner=nobody").content.decode()
    for page_name in ("change", "history"):
        page = staff.get(address(model, page_name, row.pk))
        assert page.status_code == 200
        assert re.findall(r'(?:src|href|action)="(?:https?:)?//[^"]*"', page.content.decode()) == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_staff_without_the_right_see_nothing(model: Any, alices: Space) -> None:
    client = clerk()
    row = first(model, alices.owner)
    paths = [address(model), address(model, "change", row.pk), address(model, "history", row.pk)]
    for path in paths:
        assert client.get(path).status_code == 403, path
        assert client.post(path, {"action": "restore", "_selected_action": [str(row.pk)]}).status_code == 403, path
    assert address(model) not in client.get(reverse("admin:index")).content.decode()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_right_to_view_is_no_right_to_change(model: Any, alices: Space) -> None:
    client = clerk(f"view_{model._meta.model_name}")
    row = first(model, alices.owner)
    page = client.get(address(model, "change", row.pk))
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()
    assert client.post(address(model, "change", row.pk), {"content": "x"}).status_code == 403
    assert client.get(address(model, "add")).status_code == 403
    assert client.get(address(model, "delete", row.pk)).status_code == 403
    assert client.get(address(model)).context["action_form"] is None


@pytest.mark.parametrize(
    ("model", "action", "group"),
    [
        (Memory, "reject", "memories"),
        (Memory, "delete_chosen", "memories"),
        (App, "pause", "apps"),
        (Category, "remove", "categories"),
        (Share, "revoke", "shares"),
        (Relation, "take_back", "relations"),
    ],
)
def test_an_action_needs_its_right_whatever_is_sent(model: Any, action: str, group: str, alices: Space) -> None:
    client = clerk(f"view_{model._meta.model_name}")
    before = snapshot(alices.owner)
    for place in getattr(alices, group):
        act(client, model, action, getattr(alices, group)[place])
    assert snapshot(alices.owner) == before


def test_a_list_is_searched_by_short_id_and_by_name(staff: Client, alices: Space) -> None:
    hidden = alices.memories["hidden"]
    for term in (hidden.hex[-8:], hidden.hex[-8:].upper(), str(hidden), "alice"):
        assert str(hidden) in staff.get(address(Memory), {"q": term}).content.decode(), term
    assert str(hidden) not in staff.get(address(Memory), {"q": "charlie"}).content.decode()


def test_the_log_of_one_memory_is_found_by_its_id(staff: Client, alices: Space) -> None:
    with acting_as(alices.owner.actor):
        row = AccessLog.objects.filter(memory_id=alices.memories["hidden"]).get()
    assert str(row.pk) in staff.get(address(AccessLog), {"q": str(row.memory_id)}).content.decode()


def test_filters_that_need_an_owner_are_there_only_with_one(staff: Client, alices: Space) -> None:
    archived = alices.memories["archived"]
    narrowed = staff.get(address(Memory), {"owner": "alice", "state__exact": "archived"})
    assert [row.id for row in narrowed.context["cl"].result_list] == [archived]
    assert "state__exact" not in staff.get(address(Memory)).content.decode()
    for emptied in ({"state__exact": "archived"}, {"owner": "", "state__exact": "archived"}):
        with CaptureQueriesContext(connection) as captured:
            page = staff.get(address(Memory), emptied)
        assert page.status_code == 200
        assert not [one["sql"] for one in captured if "'archived'" in one["sql"]], "it would read every owner's rows"


# What staff look at is recorded ----------------------------------------------------------------------------------


def test_a_list_without_an_owner_shows_no_text_and_records_nothing(staff: Client, alices: Space) -> None:
    for model in MODELS:
        page = staff.get(address(model)).content.decode()
        shown = {word for word in (alices.word(place, "content") for place in alices.memories) if word in page}
        assert not shown, model
        assert alices.word("hidden", "metadata") not in page
        assert alices.word("hidden", "reason") not in page
    assert views(alices) == []


def test_each_text_of_a_list_is_recorded(staff: Client, alices: Space) -> None:
    page = staff.get(address(Memory), {"owner": "alice"})
    assert alices.word("hidden", "content") in page.content.decode()
    with acting_as(alices.owner.actor):
        assert set(views(alices)) == set(Memory.objects.values_list("id", flat=True))


def test_a_page_is_in_the_owners_access_log_which_she_reads(staff: Client, alices: Space, people: People) -> None:
    hidden = alices.memories["hidden"]
    staff.get(address(Memory, "change", hidden), headers={"X-Request-ID": "the-look"})

    reply: Any = people.alice.call("GET", f"/api/v2/memories/{hidden}/access/")
    [look] = [one for one in reply.json()["results"] if one["by"] == "root"]
    assert (look["action"], look["door"], look["request_id"]) == ("staff_view", "admin", "the-look")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_what_shows_text_is_recorded_and_nothing_else(model: Any, staff: Client, alices: Space) -> None:
    with acting_as(Actor.system("test")):
        rows = list(model._default_manager.filter(owner_id=alices.owner.id).order_by("-pk"))
    for row in rows:
        before = len(views(alices))
        page = staff.get(address(model, "change", row.pk)).content.decode()
        shows_text = any(
            alices.word(place, field) in page for place in alices.memories for field in ("content", "reason")
        )
        if shows_text:
            assert model.__name__ in WITH_TEXT
        assert len(views(alices)) - before == (model.__name__ in WITH_TEXT), row


def test_a_page_that_is_shown_again_with_an_error_is_recorded_again(staff: Client, alices: Space) -> None:
    path = address(Memory, "change", alices.memories["hidden"])
    staff.post(path, form_data(staff.get(path), kind="nonsense"))
    assert len(views(alices)) == 2


def test_ones_own_is_not_recorded(staff: Client, root: User) -> None:
    mine = services.add(Actor.of(root, door="rest"), NewMemory("mine")).memory_id
    staff.get(address(Memory, "change", mine))
    staff.get(address(Memory), {"owner": "root"})
    with acting_as(Actor.system("test")):
        assert not AccessLog.objects.filter(memory_id=mine).exists()


@pytest.mark.parametrize(
    "query",
    ["content__contains=canary", "content__startswith=c", "metadata__canary=x", "state__exact=active&content=x"],
)
def test_no_address_asks_what_a_text_holds(staff: Client, alices: Space, query: str) -> None:
    page = staff.get(f"{address(Memory)}?{query}")
    assert page.status_code in (302, 400), "a list that fits would tell of texts that nobody was shown"


def test_choosing_by_name_does_not_ask_for_texts_either(staff: Client, alices: Space) -> None:
    asked = {"app_label": "memories", "model_name": "accesslog", "field_name": "memory", "owner": "alice"}
    found = staff.get(reverse("admin:autocomplete"), asked | {"term": "canary"})
    assert alices.memories["hidden"].hex[-8:] not in found.content.decode()


def test_near_duplicates_are_looked_for_when_asked_for_and_each_is_recorded(staff: Client, alices: Space) -> None:
    actor = alices.owner.actor
    first_id, second_id, _ = (
        services.add(actor, NewMemory(content=text)).memory_id
        for text in ("Logs are kept for 9 days.", "Note that logs are kept for nine days.", "Logs are kept for 8 days.")
    )
    path = address(Memory, "change", first_id)

    plain = staff.get(path).content.decode()
    assert str(second_id) not in plain
    assert views(alices) == [first_id]

    asked = staff.get(path, {"near_duplicates": "1"}).content.decode()
    assert address(Memory, "change", second_id) in asked
    assert "Note that logs are kept for nine days." in asked
    assert "8 days" not in asked
    assert sorted(views(alices)[1:]) == sorted([first_id, second_id])

    assert (
        "None says the same."
        in staff.get(address(Memory, "change", alices.memories["hidden"]), {"near_duplicates": "1"}).content.decode()
    )


# Curating --------------------------------------------------------------------------------------------------------


def test_an_edit_goes_by_the_services(staff: Client, alices: Space, root: User) -> None:
    hidden = alices.memories["hidden"]
    before = memory(hidden)

    page = save(staff, hidden, content="The ferry leaves at noon.\r\nFrom pier 7.", tags="Harbour, ferry", pinned="on")

    assert "was changed successfully" in told(page)[0]
    after = memory(hidden)
    assert (after.content, after.tags) == ("The ferry leaves at noon.\nFrom pier 7.", ["harbour", "ferry"])
    assert after.version == before.version + 1
    assert after.pinned_at is not None
    assert after.event_at == before.event_at, "what was not touched keeps its microseconds"
    assert after.metadata == before.metadata
    hits = search(alices.owner.actor, "when does the ferry leave", top_k=1).hits
    assert [hit.memory.id for hit in hits] == [hidden], "its vector and terms are those of the new text"
    with acting_as(alices.owner.actor):
        last = MemoryHistory.objects.filter(memory_id=hidden).order_by("-id")[0]
    assert (last.event, last.door, last.by_id, last.version) == ("UPDATE", "admin", root.pk, after.version)
    assert set(last.after) == {"content", "tags", "pinned_at"}


def test_everything_that_can_be_changed_is_on_the_page(staff: Client, alices: Space) -> None:
    hidden, lone = alices.memories["hidden"], alices.memories["lone"]
    page = save(
        staff, hidden, kind="decision", namespace="new", state="paused", superseded_by=str(lone), categories="a, b",
        speaker="Ada", metadata='{"a": [1]}', event_at_0="2026-01-02", event_at_1="03:04:05",
        valid_from_0="2026-01-01", valid_from_1="00:00:00", valid_to_0="2027-01-01", valid_to_1="00:00:00",
        expires_at_0="2099-01-01", expires_at_1="00:00:00",
    )  # fmt: skip
    assert "was changed successfully" in told(page)[0]
    after = memory(hidden)
    assert (after.kind, after.namespace_name, after.state, after.standing) == (
        "decision",
        "new",
        "paused",
        "superseded",
    )
    assert (after.superseded_by_id, after.category_names, after.speaker) == (lone, ["a", "b"], "Ada")
    assert after.metadata == {"a": [1]}
    utc = timezone.get_default_timezone()
    assert after.event_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=utc)
    assert (after.valid_from, after.valid_to) == (datetime(2026, 1, 1, tzinfo=utc), datetime(2027, 1, 1, tzinfo=utc))


def test_saving_without_a_change_writes_nothing(staff: Client, alices: Space) -> None:
    hidden = alices.memories["hidden"]
    with acting_as(alices.owner.actor):
        Memory.objects.filter(id=hidden).update(content="  Two lines,\n blanks around.  ")
        changes = MemoryHistory.objects.count()
    before = memory(hidden)
    save(staff, hidden, content="  Two lines,\r\n blanks around.  ")
    assert memory(hidden).version == before.version
    with acting_as(alices.owner.actor):
        assert MemoryHistory.objects.count() == changes


def test_a_word_with_a_comma_stays_whole_while_nobody_touches_it(staff: Client, alices: Space) -> None:
    made = services.add(alices.owner.actor, NewMemory("One.", tags=["a, b", "c"], categories=["d, e"])).memory_id
    save(staff, made, content="Two.")
    after = memory(made)
    assert (after.content, after.tags, after.category_names) == ("Two.", ["a, b", "c"], ["d, e"])


def test_a_change_meanwhile_is_told_and_what_was_typed_is_kept(staff: Client, alices: Space) -> None:
    hidden = alices.memories["hidden"]
    path = address(Memory, "change", hidden)
    data = form_data(staff.get(path), content="Staff's.")
    services.update(alices.owner.actor, hidden, {"content": "Alice's."})

    page: Any = staff.post(path, data)

    assert page.status_code == 200
    assert "is at version" in errors(page)["__all__"][0]
    assert "Staff&#x27;s." in page.content.decode()
    assert memory(hidden).content == "Alice's."


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"content": "key AKIAIOSFODNN7EXAMPLQ"}, "content", "secret (aws_access_key_id"),
        ({"content": "a\x00b"}, "content", "Null"),
        ({"content": "x" * 20_001}, "content", "at most 20000"),
        ({"tags": "x" * 51}, "tags", "50"),
        ({"namespace": "   "}, "namespace", "required"),
        ({"superseded_by": "nonsense"}, "superseded_by", "UUID"),
        ({"superseded_by": "01a211ae-0000-7000-8000-000000000000"}, "__all__", "no such memory"),
        ({"kind": "message", "speaker": "x"}, "__all__", ""),
        ({"valid_from_0": "2026-02-01", "valid_from_1": "00:00", "valid_to_0": "2026-01-01", "valid_to_1": "00:00"},
         "valid_to", "before valid_from"),
        ({"metadata": '{"a": "' + "x" * 17_000 + '"}'}, "metadata", "16"),
        ({"metadata": "[1]"}, "metadata", "JSON object"),
        ({"metadata": "["}, "metadata", "valid JSON"),
        ({"metadata": "[" * 100_000}, "metadata", "nested too deeply"),
        ({"metadata": '{"a": NaN}'}, "metadata", "finite"),
        ({"state": "deleted"}, "state", ""),
        ({"expected_version": "x"}, "expected_version", ""),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_what_the_services_refuse_is_said_beside_the_field(
    staff: Client, alices: Space, changes: dict[str, str], field: str, says: str
) -> None:
    plain = services.add(alices.owner.actor, NewMemory("Plain.")).memory_id
    before = memory(plain)
    page = save(staff, plain, **changes)
    assert page.status_code == 200
    assert set(errors(page)) & {field, "__all__", "kind"}, errors(page)
    if says:
        assert says in " ".join(errors(page)[field]), errors(page)
    assert memory(plain).version == before.version
    assert memory(plain).content == "Plain."


def test_a_secret_is_stored_when_staff_say_so(staff: Client, alices: Space) -> None:
    hidden = alices.memories["hidden"]
    page = save(staff, hidden, content="key AKIAIOSFODNN7EXAMPLQ", allow_secret="on")
    assert "was changed successfully" in told(page)[0]


def test_a_text_that_is_there_already_is_refused(staff: Client, alices: Space) -> None:
    one = services.add(alices.owner.actor, NewMemory("One.")).memory_id
    services.add(alices.owner.actor, NewMemory("Two."))
    page = save(staff, one, content="Two.")
    assert "says exactly this" in errors(page)["__all__"][0]
    assert memory(one).content == "One."


def act(client: Client, model: Any, action: str, *ids: Any) -> Any:
    sent = {"action": action, "_selected_action": [str(one) for one in ids]}
    return client.post(address(model), sent, follow=True)


@pytest.mark.parametrize(
    ("action", "name", "value", "event"),
    [
        ("pause", "state", "paused", "STATE"),
        ("archive", "state", "archived", "STATE"),
        ("reject", "standing", "rejected", "REJECT"),
        ("delete_chosen", "state", "deleted", "DELETE"),
    ],
)
def test_several_are_changed_at_once_of_several_owners(
    staff: Client, people: People, action: str, name: str, value: str, event: str
) -> None:
    owners = (people.alice, people.charlie)
    ids = [services.add(owner.actor, NewMemory(f"{n}")).memory_id for owner in owners for n in range(2)]
    page = act(staff, Memory, action, *ids)
    assert told(page)[0].startswith("4 ")
    assert {getattr(memory(one), name) for one in ids} == {value}
    for owner in owners:
        with acting_as(owner.actor):
            found = MemoryHistory.objects.filter(door="admin").values_list("event", "by__username")
            assert list(found) == [(event, "root")] * 2


def test_what_was_deleted_is_restored_and_the_rest_is_told(staff: Client, alices: Space) -> None:
    page = act(staff, Memory, "restore", alices.memories["deleted"], alices.memories["hidden"])
    assert told(page)[0] == "1 restored."
    assert "not deleted" in told(page)[1]
    assert memory(alices.memories["deleted"]).state == "active"


def test_a_deleted_one_can_be_looked_at_and_not_changed(staff: Client, alices: Space) -> None:
    path = address(Memory, "change", alices.memories["deleted"])
    assert 'name="_save"' not in staff.get(path).content.decode()
    assert staff.post(path, {"content": "x"}).status_code == 403
    page = act(staff, Memory, "pause", alices.memories["deleted"])
    assert "no such memory" in told(page)[0].lower()


def test_one_is_deleted_from_its_page_and_can_be_restored(staff: Client, alices: Space) -> None:
    hidden = alices.memories["hidden"]
    path = address(Memory, "delete", hidden)
    assert "restored for 30 days" in staff.get(path).content.decode()
    staff.post(path, {"post": "yes"})
    assert memory(hidden).state == "deleted"
    services.restore(alices.owner.actor, hidden)


def test_apps_categories_and_shares_are_changed_by_the_services(staff: Client, alices: Space) -> None:
    act(staff, App, "pause", alices.apps["hidden"])
    act(staff, Category, "remove", alices.categories["hidden"])
    act(staff, Relation, "take_back", alices.relations["hidden from older"])
    refused = act(staff, Relation, "take_back", alices.relations["hidden from lone"])
    assert "derived_from" in told(refused)[0]
    act(staff, Share, "revoke", alices.shares["lone"])
    again = act(staff, Share, "revoke", alices.shares["lone"])
    with acting_as(alices.owner.actor):
        assert not App.objects.get(id=alices.apps["hidden"]).is_active
        assert not Category.objects.filter(id=alices.categories["hidden"]).exists()
        assert Share.objects.get(id=alices.shares["lone"]).revoked_at is not None
        kept = set(Relation.objects.filter(owner_id=alices.owner.id).values_list("relation", flat=True))
        assert kept == {"derived_from"}
    assert "ended already" in told(again)[0]
    act(staff, App, "let_write", alices.apps["hidden"])
    with acting_as(alices.owner.actor):
        assert App.objects.get(id=alices.apps["hidden"]).is_active


def test_dead_letters_are_tried_again(staff: Client, alices: Space) -> None:
    with acting_as(Actor.system("test")):
        dead, done = OutboxDelivery.objects.filter(owner_id=alices.owner.id)[:2]
        OutboxDelivery.objects.filter(id=dead.id).update(state="dead", attempts=8, reason="ValueError")
    listed = staff.get(address(OutboxDelivery), {"state__exact": "dead"})
    assert [row.id for row in listed.context["cl"].result_list] == [dead.id]

    page = act(staff, OutboxDelivery, "replay", dead.id, done.id)

    assert told(page) == ["1 tried again."]
    with acting_as(Actor.system("test")):
        dead.refresh_from_db()
        assert (dead.state, dead.attempts) == ("waiting", 0)
    outbox.drain(alices.owner.id)
    with acting_as(Actor.system("test")):
        dead.refresh_from_db()
        assert dead.state == "done"


# Cost ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?owner=alice"])
def test_lists_send_the_same_statements_however_long_they_are(staff: Client, alices: Space, query: str) -> None:
    def statements() -> dict[str, int]:
        numbers = {}
        for model in MODELS:
            with CaptureQueriesContext(connection) as captured:
                assert staff.get(address(model) + query).status_code == 200
            numbers[model.__name__] = len(captured)
            counting = [one["sql"] for one in captured if "COUNT(" in one["sql"].upper() and "memories_" in one["sql"]]
            assert not counting, counting
        return numbers

    staff.get(address(Memory))  # what is read once a process is not the list's
    few = statements()
    for number in range(20):
        services.add(
            alices.owner.actor,
            NewMemory(f"More, {number}.", namespace=f"n{number}", app=f"a{number}", categories=[f"c{number}"]),
            idempotency_key=f"k{number}",
        )
    more = statements()
    assert more == few
    assert max(few.values()) <= 16, few


def test_a_list_has_one_order_whatever_the_address_says(staff: Client, alices: Space) -> None:
    plain = [row.id for row in staff.get(address(Memory)).context["cl"].result_list]
    assert plain == sorted(plain, reverse=True)
    assert [row.id for row in staff.get(address(Memory), {"o": "1"}).context["cl"].result_list] == plain
