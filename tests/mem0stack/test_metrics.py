"""Who may read `/metrics`, and that its figures are right over several processes and after one is killed."""

import os
import re
import signal
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from accounts.actors import acting_as
from accounts.models import Scope
from mem0stack import metrics
from memories import parts, services
from memories.models import OutboxDelivery
from memories.services import NewMemory
from tests.people import People
from tests.running import CHECKOUT, RunningService, running_service, wait_for

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(autouse=True)
def _ask_anew() -> Iterator[None]:
    yield
    parts._recent.at = metrics._last.at = float("-inf")


def parsed(text: str) -> Figures:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(service: RunningService) -> Figures:
    return parsed(httpx.get(f"{service.url}/metrics").raise_for_status().text)


def total(figures: Figures, name: str, **labels: str) -> float:
    return sum(
        value for (found, some), value in figures.items() if found == name and labels.items() <= dict(some).items()
    )


# Who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_this_machine_reads_metrics_without_a_key() -> None:
    reply = Client().get("/metrics", headers={"Host": "localhost:8000", "Accept": "application/openmetrics-text"})
    assert reply.status_code == 200
    assert reply["Content-Type"].startswith("text/plain; version=")
    assert "mem0_part_up" in reply.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("10.0.0.7", {"Host": "localhost"}),
        ("127.0.0.1", {"Host": "testserver"}),
        ("127.0.0.1", {"Host": "localhost", "X-Forwarded-For": "10.0.0.7"}),
        ("127.0.0.1", {"Host": "localhost", "X-Forwarded-Proto": "https"}),
        ("127.0.0.1", {"Host": "localhost", "Forwarded": "for=127.0.0.1"}),
    ],
    ids=["another machine", "another name", "a proxy", "a proxy with TLS", "a proxy by the standard"],
)
def test_whoever_comes_from_elsewhere_needs_a_key(address: str, headers: dict[str, str]) -> None:
    reply = Client(REMOTE_ADDR=address).get("/metrics", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")


@pytest.mark.django_db
def test_behind_a_proxy_this_machine_needs_a_key_too(settings: object) -> None:
    settings.BEHIND_PROXY = True  # type: ignore[attr-defined]
    assert Client().get("/metrics", headers={"Host": "localhost"}).status_code == 401


@pytest.mark.django_db
def test_a_key_must_be_a_staff_members_with_scope_admin_and_unlimited(people: People) -> None:
    assert people.charlie.call("GET", "/metrics").status_code == 403
    people.alice.user.is_staff = True
    people.alice.user.save()
    assert people.alice.call("GET", "/metrics").status_code == 200
    _, reader = people.alice.another_key(scopes=["read", "write"])
    _, limited = people.alice.another_key(scopes=Scope.values, namespaces=["work"])
    for caller in (reader, limited):
        assert caller.call("GET", "/metrics").status_code == 403
    assert people.alice.call("POST", "/metrics").status_code == 405


# What is read when somebody asks ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_memories_and_outbox_are_counted_when_somebody_asks(people: People) -> None:
    actor = people.alice.actor
    for n in range(3):
        services.add(actor, NewMemory(f"Number {n}."))
    services.delete(actor, services.add(actor, NewMemory("Gone.")).memory_id)
    with acting_as(actor):
        bad = OutboxDelivery.objects.filter(owner_id=actor.owner_id).first()
        assert bad is not None
        OutboxDelivery.objects.filter(id=bad.id).update(state=OutboxDelivery.DeliveryState.DEAD)
    figures = parsed(metrics.page().decode())
    assert total(figures, "mem0_memories", state="active") == 3
    assert total(figures, "mem0_memories", state="deleted") == 1
    assert total(figures, "mem0_outbox_dead", consumer="statistics") == 1
    assert total(figures, "mem0_outbox_waiting", consumer="statistics") == 4
    assert total(figures, "mem0_outbox_oldest_waiting_seconds") > 0
    assert total(figures, "mem0_database_bytes") > 1e6


@pytest.mark.django_db
def test_without_the_database_the_rest_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "recent_parts", lambda: {"database": parts.Part("down", 500.0, "Away.")})
    figures = parsed(metrics.page().decode())
    assert figures["mem0_part_up", (("part", "database"),)] == 0
    assert not any(name == "mem0_memories" for name, _ in figures)


@pytest.mark.django_db
def test_a_route_that_does_not_exist_makes_no_label() -> None:
    Client().get("/api/v2/private-text/")
    Client().generic("INVENTED", "/health/live")
    text = metrics.page().decode()
    assert "private-text" not in text
    assert "INVENTED" not in text
    assert 'route="none"' in text


# A whole service --------------------------------------------------------------------------------------------------


def write(service: RunningService, number: int) -> None:
    for n in range(number):
        # A connection for each, so that both web processes get some.
        reply = httpx.post(
            f"{service.url}/api/v2/memories/",
            json={"content": f"Counted {time.time_ns()} {n}."},
            headers={"Authorization": f"Bearer {service.api_key}"},
        )
        assert reply.status_code == 201, reply.text


def web_processes(service: RunningService) -> list[int]:
    """The processes below granian that have loaded the service."""
    loaded = {int(path.suffix[1:]) for path in (service.home / "run" / "ready").glob("web.*")}
    assert service.pids is not None
    web = service.pids["web"]
    assert web is not None
    return [child.pid for child in psutil.Process(web).children() if child.pid in loaded]


def test_sums_hold_over_two_processes_and_after_one_is_killed() -> None:
    with running_service() as service:
        before = scrape(service)
        assert total(before, "mem0_writes_total") == 0
        write(service, 30)
        figures = scrape(service)
        assert total(figures, "mem0_writes_total", event="ADD") == 30
        added = {"method": "POST", "route": "api/v2/memories/", "status": "2xx"}
        assert total(figures, "mem0_http_request_seconds_count", **added) == 30
        wait_for(lambda: total(scrape(service), "mem0_outbox_deliveries_total", outcome="done") == 30)
        files = list((service.home / "run" / "metrics").glob("counter_*.db"))
        assert len(files) >= 3, "two web processes and the worker"
        first, second = web_processes(service)

        os.kill(first, signal.SIGKILL)
        wait_for(lambda: first not in web_processes(service) and len(web_processes(service)) == 2)
        figures = scrape(service)
        assert total(figures, "mem0_writes_total", event="ADD") == 30
        assert total(figures, "mem0_http_request_seconds_count", **added) == 30
        write(service, 20)
        figures = scrape(service)
        assert total(figures, "mem0_writes_total", event="ADD") == 50
        assert total(figures, "mem0_http_request_seconds_count", **added) == 50
        # Only this request is in hand, and the live gauge of the dead process is gone.
        assert total(figures, "mem0_http_requests_in_progress") == 1
        assert not (service.home / "run" / "metrics" / f"gauge_livesum_{first}.db").exists()
        assert (service.home / "run" / "metrics" / f"gauge_livesum_{second}.db").exists()

        service.manage("down")
        service.up()
        assert total(scrape(service), "mem0_writes_total") == 0


def documented() -> set[str]:
    return set(re.findall(r"^\| `(mem0_\w+)` \|", (CHECKOUT / "docs" / "metrics.md").read_text(), re.MULTILINE))


def test_the_document_names_every_metric_and_no_other(service: RunningService) -> None:
    write(service, 1)
    with service.client() as client:
        assert client.post("/api/v2/search/", json={"query": "counted"}).status_code == 200
    wait_for(lambda: total(scrape(service), "mem0_outbox_deliveries_total") > 0)
    text = httpx.get(f"{service.url}/metrics").text
    exported = set(re.findall(r"^# TYPE (\w+) \w+$", text, re.MULTILINE))
    assert exported == documented()
    assert text.count("# HELP") == len(exported)


def test_alerts_of_the_document_ask_for_metrics_that_exist() -> None:
    text = (CHECKOUT / "docs" / "metrics.md").read_text()
    asked = set(re.findall(r"\bmem0_\w+", "\n".join(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))))
    assert asked
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked} <= documented()
