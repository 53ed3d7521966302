"""Settings and client of a model provider, against a real server on loopback that behaves in every bad way."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from memories import providers
from memories.models import ProviderSettings
from memories.providers import Provider, ProviderAway
from tests.openai_server import OpenAIServer, openai_server

KEY = "sk-only-for-the-provider"


@pytest.fixture
def fake() -> Iterator[OpenAIServer]:
    with openai_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Nothing is known from another test."""
    providers.forget()
    yield
    providers.close()


def provider_at(fake: OpenAIServer, purpose: str = "embedder", **changes: Any) -> Provider:
    given: dict[str, Any] = {"kind": "compatible", "model": "m", "dimensions": 32, "timeout_ms": 500, "key": KEY}
    return Provider(purpose=purpose, base_url=fake.url, **(given | changes))


def test_vectors_come_in_the_order_of_the_texts_and_normalised(fake: OpenAIServer) -> None:
    one, two, again = provider_at(fake).embed(["apples and pears", "a bicycle", "pears and apples"])
    assert np.linalg.norm(one) == pytest.approx(1)
    assert one @ again == pytest.approx(1)
    assert one @ two < 0.5
    assert len(fake.calls) == 1


def test_the_model_replies(fake: OpenAIServer) -> None:
    fake.replies.append("Four.")
    assert provider_at(fake, "model").chat([{"role": "user", "content": "2 + 2?"}], temperature=0) == "Four."
    [call] = fake.calls
    assert call["path"] == "/v1/chat/completions"
    assert call["body"] == {"model": "m", "messages": [{"role": "user", "content": "2 + 2?"}], "temperature": 0}


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("hanging", "timeout"),
        ("trickling", "timeout"),
        ("rate_limited", "rate_limited"),
        ("failing", "failed"),
        ("unauthorized", "unauthorized"),
        ("redirecting", "unusable"),
        ("garbage", "garbage"),
        ("nonsense", "garbage"),
        ("wrong_dimensions", "wrong_dimensions"),
        ("wrong_count", "garbage"),
        ("not_a_number", "garbage"),
    ],
)
def test_whatever_is_wrong_has_a_word_and_an_end(fake: OpenAIServer, mode: str, reason: str) -> None:
    fake.mode = mode
    began = time.monotonic()
    with capture_logs() as logged, pytest.raises(ProviderAway) as raised:
        provider_at(fake).embed(["a text that nobody logs", "another"])
    assert raised.value.reason == reason
    assert time.monotonic() - began < 5
    assert len(fake.calls) == 1, "a client retries nothing by itself, and follows nobody elsewhere"
    [line] = [line for line in logged if line["event"] == "provider_away"]
    assert (line["purpose"], line["reason"]) == ("embedder", reason)
    assert "nobody logs" not in str(logged) + str(raised.value)
    assert KEY not in str(logged) + str(raised.value)


def test_a_server_that_is_not_there_refuses(fake: OpenAIServer) -> None:
    fake.stop()
    with pytest.raises(ProviderAway) as raised:
        provider_at(fake, "model").chat([{"role": "user", "content": "x"}])
    assert raised.value.reason == "refused"


def test_after_three_failures_nobody_waits_until_it_is_tried_again(fake: OpenAIServer) -> None:
    fake.mode = "failing"
    provider = provider_at(fake)
    reasons = []
    for _ in range(5):
        with pytest.raises(ProviderAway) as raised:
            provider.embed(["x"])
        reasons.append(raised.value.reason)
    assert reasons == ["failed"] * 3 + ["paused"] * 2
    assert len(fake.calls) == 3


def test_a_text_that_is_refused_is_no_illness(fake: OpenAIServer) -> None:
    fake.refused_word = "endless"
    provider = provider_at(fake)
    for _ in range(5):
        with pytest.raises(ProviderAway, match="400") as raised:
            provider.embed(["endless"])
        assert raised.value.reason == "rejected"
    assert len(provider.embed(["short"])) == 1


def test_a_pause_that_was_asked_for_is_kept_without_a_call(fake: OpenAIServer) -> None:
    fake.mode, fake.retry_after_s = "rate_limited", 0.3
    provider = provider_at(fake)
    for _ in range(2):
        with pytest.raises(ProviderAway) as raised:
            provider.embed(["x"])
        assert raised.value.retry_after_s == pytest.approx(0.3, abs=0.1)
    assert len(fake.calls) == 1
    fake.mode = "ok"
    time.sleep(0.35)
    assert len(provider.embed(["x"])) == 1


def test_requests_a_minute_are_kept_and_some_are_left_for_searches(
    fake: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A minute of this run alone, in the middle of it.
    minute = (int(time.time()) // 60 + os.getpid() * 10) * 60 + 30.0
    monkeypatch.setattr(providers.time, "time", lambda: minute)
    provider = provider_at(fake, requests_a_minute=4)
    for _ in range(3):
        provider.embed(["x"])
    with pytest.raises(ProviderAway) as raised:
        provider.embed(["x"])
    assert (raised.value.reason, raised.value.retry_after_s) == ("rate_limited", 30)
    assert len(fake.calls) == 3


def test_the_key_goes_to_the_provider_and_nowhere_else(fake: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    with openai_server() as other:
        monkeypatch.setenv("OPENAI_BASE_URL", other.url)
        provider_at(fake).embed(["x"])
        provider_at(other, key="").embed(["x"])
        provider_at(fake, kind="openai").embed(["x"])
    assert [call["headers"]["authorization"] for call in fake.calls] == [f"Bearer {KEY}"] * 2
    assert "sk-" not in str(other.calls)
    assert KEY not in repr(provider_at(fake))


def test_azure_is_asked_as_azure_wants(fake: OpenAIServer) -> None:
    address = fake.url.removesuffix("/v1")
    [vector] = Provider("embedder", "azure", "mine", address, "2024-10-21", dimensions=48, key=KEY).embed(["x"])
    assert vector.shape == (48,)
    [call] = fake.calls
    assert call["path"] == "/openai/deployments/mine/embeddings?api-version=2024-10-21"
    assert call["headers"]["api-key"] == KEY


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "anthropic"}, "one of openai, azure, compatible"),
        ({"model": ""}, "No model"),
        ({"base_url": ""}, "needs its address"),
        ({"base_url": "ftp://x"}, "http"),
        ({"kind": "azure"}, "version of its API"),
        ({"kind": "openai", "base_url": "", "key": ""}, "needs a key"),
        ({"key": "sk-\u00fcber"}, "no key has"),
        ({"dimensions": 0}, "1 to 4000"),
        ({"batch_size": 0}, "1 to 2048"),
        ({"query_budget_ms": 0}, "1 ms or more"),
    ],
)
def test_settings_that_cannot_work_say_so(changes: dict[str, Any], says: str) -> None:
    given = {"kind": "compatible", "model": "m", "base_url": "http://localhost:1/v1", "dimensions": 32}
    assert says in providers.problem(Provider(purpose="embedder", **(given | changes)))
    assert providers.problem(Provider(purpose="embedder", **given)) == ""


def environment(fake: OpenAIServer) -> Any:
    given = settings.PROVIDERS["embedder"] | {"kind": "compatible", "base_url": fake.url, "dimensions": 32}
    return override_settings(PROVIDERS=settings.PROVIDERS | {"embedder": given})


@pytest.mark.django_db
def test_nothing_is_configured_by_default_and_asking_is_free() -> None:
    with CaptureQueriesContext(connection) as captured:
        for _ in range(10):
            assert providers.configured("embedder") is None
    assert len(captured) == 1


@pytest.mark.django_db
def test_a_row_replaces_the_environment_and_an_inactive_one_switches_off(fake: OpenAIServer) -> None:
    with environment(fake):
        found = providers.configured("embedder")
        assert found is not None
        assert found.model == "text-embedding-3-small"
        row = ProviderSettings.objects.create(
            purpose="embedder", kind="compatible", base_url=fake.url, model="mine", dimensions=32
        )
        providers.forget()
        found = providers.configured("embedder")
        assert found is not None
        assert (found.model, found.trouble) == ("mine", "")
        row.is_active = False
        row.save()
        providers.forget()
        assert providers.configured("embedder") is None


@pytest.mark.django_db
def test_a_key_is_sealed_in_its_row_and_another_secret_key_is_an_error_with_its_mend(fake: OpenAIServer) -> None:
    stored = providers.sealed(KEY)
    assert KEY not in stored
    assert providers.opened(stored) == KEY
    ProviderSettings.objects.create(
        purpose="embedder", kind="compatible", base_url=fake.url, model="m", dimensions=32, key=stored
    )
    with override_settings(SECRET_KEY="another" * 10):
        found = providers.configured("embedder")
        assert found is not None
        with pytest.raises(ProviderAway, match="Enter the key again") as raised:
            found.embed(["x"])
    assert raised.value.reason == "unusable"
    assert fake.calls == []


def test_a_key_can_stay_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert providers.sealed("env:OPENAI_API_KEY") == "env:OPENAI_API_KEY"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(providers.Unsealable, match="OPENAI_API_KEY is not set"):
        providers.opened("env:OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert providers.opened("env:OPENAI_API_KEY") == KEY
    (tmp_path / "key").write_text("sk-file\n")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "key"))
    assert providers.opened("env:OPENAI_API_KEY") == "sk-file"
    with pytest.raises(providers.Unsealable, match="ends in _API_KEY"):
        providers.opened("env:SECRET_KEY")


def test_without_a_provider_nobody_pays_for_its_library() -> None:
    code = (
        "import sys, django; django.setup(); import mem0stack.urls, mem0stack.celery, memories.tasks, memories.search;"
        "print(sorted({'openai', 'httpx2', 'cryptography.fernet'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "mem0stack.settings"},
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.strip() == "[]"
