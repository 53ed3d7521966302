"""Calls to a model provider: OpenAI, Azure, or anything that speaks OpenAI's language.

Both purposes are optional. `configured(purpose)` says whether there is a provider for one, from a row that staff edit
or else from the environment; `Provider.embed` and `Provider.chat` call it. Whatever goes wrong there becomes a
ProviderAway with one word for the reason; a request falls back on it, a worker comes back later.
"""

import base64
import contextlib
import hashlib
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as DeadlineError
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import orjson
import structlog
from django.conf import settings
from numpy.typing import NDArray

from mem0stack.lib import valkey
from mem0stack.lib.metrics import PROVIDER_CALLS, PROVIDER_SECONDS
from mem0stack.lib.resilience import CircuitOpen, circuit, is_open
from memories.models import ProviderKind, ProviderSettings, Purpose

if TYPE_CHECKING:
    import httpx2
    import openai
    from cryptography.fernet import Fernet

log = structlog.get_logger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
# A halfvec in PostgreSQL ends at 16,000; past this one no row fits a page.
MAX_DIMENSIONS = 4_000
# A batch of 2,048 vectors of 3,072 numbers is 80 MB as JSON; whatever is longer is no answer.
_MAX_REPLY_BYTES = 100 * 2**20
# How long a row is taken as read: a change of it holds everywhere within a second.
_GOOD_FOR_S = 1.0
# What a provider that says "too many requests" and no time means, and the longest that is believed.
_PAUSE_S, _LONGEST_PAUSE_S = 20.0, 600.0
# Of the allowed requests a minute this share is for work that can wait; the rest is left for searches.
_BACKGROUND_SHARE = 0.75
# Staff may name a variable that holds a provider's key, and no other secret of the process.
_KEY_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*_API_KEY")
# A search that was not waited for goes on so long at most, and so many of them at once.
_LATE_QUERY_MS, _WAITING_QUERIES = 2_000, 16
_ENV, _SEALED = "env:", "sealed:"

Vector = NDArray[np.float32]
Result = TypeVar("Result")


class ProviderAway(Exception):
    """The provider gave no usable answer. `reason` is one word, for logs, metrics and callers:

    refused (no connection), timeout, failed (its 5xx), rate_limited, unauthorized, rejected (this request: a text too
    long), garbage, wrong_dimensions, unusable (our settings), paused (not tried: it failed just now).
    `retry_after_s` is there when somebody said how long.
    """

    def __init__(self, reason: str, detail: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Unsealable(Exception):
    """A stored key that this SECRET_KEY did not seal."""


@dataclass(frozen=True)
class Provider:
    """Whom to call and how. `trouble` says what is wrong with the settings; then every call is ProviderAway."""

    purpose: str
    kind: str
    model: str
    base_url: str = ""
    api_version: str = ""
    dimensions: int = 0
    batch_size: int = 64
    timeout_ms: int = 30_000
    query_budget_ms: int = 150
    requests_a_minute: int = 0
    key: str = field(default="", repr=False)
    trouble: str = ""

    def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        timeout_ms: int | None = None,
    ) -> list[Vector]:
        """A normalised vector for each text, in one request; at most `batch_size` texts. Raises ProviderAway."""
        return self.guarded(lambda: self._embed(texts, model, dimensions, timeout_ms, background=True))

    def embed_query(self, text: str, *, model: str, dimensions: int) -> Vector:
        """The vector of a search, for use inside `within_budget`, which guards it. Raises ProviderAway."""
        # Longer than anybody waits: an answer that comes late is still good for whoever asks the same.
        timeout_ms = max(self.query_budget_ms, min(self.timeout_ms, _LATE_QUERY_MS))
        [vector] = self._embed([text], model, dimensions, timeout_ms, background=False)
        return vector

    def within_budget(self, call: Callable[[], Result]) -> Result:
        """What `call` returns, if it does so within the query budget. Raises ProviderAway, and then `call` may still go
        on in its thread: a socket's own time-out is one for each read, and no limit for the whole."""
        return self.guarded(lambda: self._waited_for(call))

    def chat(self, messages: Sequence[Mapping[str, str]], **options: Any) -> str:
        """The model's reply to these messages; `options` are those of chat completions. Raises ProviderAway."""
        return self.guarded(lambda: self._chat(messages, options))

    def guarded(self, call: Callable[[], Result]) -> Result:
        """Through the circuit of this purpose: for what is not the provider's illness it stays closed."""
        harmless: ProviderAway | None = None
        try:
            with circuit(self.purpose, ProviderAway):
                try:
                    return call()
                except ProviderAway as away:
                    if away.reason not in ("rejected", "rate_limited", "unusable"):
                        raise
                    harmless = away
        except CircuitOpen as error:
            PROVIDER_CALLS.labels(self.purpose, "paused").inc()
            raise ProviderAway("paused", str(error)) from None
        raise harmless

    def _waited_for(self, call: Callable[[], Result]) -> Result:
        if not _slots.acquire(blocking=False):
            raise ProviderAway("timeout", "Too many searches wait for it already.")
        future = _threads.submit(call)
        future.add_done_callback(lambda _: _slots.release())
        try:
            return future.result(self.query_budget_ms / 1000)
        except DeadlineError:
            PROVIDER_CALLS.labels(self.purpose, "late").inc()
            log.warning("provider_late", purpose=self.purpose, budget_ms=self.query_budget_ms)
            raise ProviderAway("timeout", "It took longer than a search may wait.") from None

    def _embed(
        self,
        texts: Sequence[str],
        model: str | None,
        dimensions: int | None,
        timeout_ms: int | None,
        *,
        background: bool,
    ) -> list[Vector]:
        dimensions = dimensions or self.dimensions
        options: dict[str, Any] = {"model": model or self.model, "input": list(texts), "encoding_format": "float"}
        # Other servers refuse what their model cannot do, or ignore it; OpenAI's first model cannot either.
        if self.kind != ProviderKind.COMPATIBLE and "ada-002" not in options["model"]:
            options["dimensions"] = dimensions
        with self._call(background=background):
            reply = self._client().embeddings.with_raw_response.create(**options, timeout=self._timeout_s(timeout_ms))
            return _vectors(_parsed(reply.http_response), len(texts), dimensions)

    def _chat(self, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]) -> str:
        with self._call(background=True):
            request: Any = {"model": self.model, "messages": list(messages)} | dict(options)
            reply = self._client().chat.completions.with_raw_response.create(**request, timeout=self._timeout_s(None))
            return _reply(_parsed(reply.http_response))

    def _timeout_s(self, timeout_ms: int | None) -> float:
        return (timeout_ms or self.timeout_ms) / 1000

    def _client(self) -> "openai.OpenAI":
        return _client(self.kind, self.base_url, self.api_version, self.key)

    @contextlib.contextmanager
    def _call(self, *, background: bool) -> Iterator[None]:
        """Around one request: may it be made now, how long did it take, and how did it end."""
        began = time.perf_counter()
        outcome = "ok"
        try:
            if self.trouble:
                raise ProviderAway("unusable", self.trouble)
            _admit(self, background=background)
            with _translated(self.purpose):
                yield
        except ProviderAway as away:
            outcome = away.reason
            # Neither the message, which may quote a text, nor the address, which may hold a password.
            log.warning(
                "provider_away",
                purpose=self.purpose,
                reason=away.reason,
                ms=round((time.perf_counter() - began) * 1000),
                retry_after_s=away.retry_after_s,
            )
            raise
        finally:
            PROVIDER_CALLS.labels(self.purpose, outcome).inc()
            PROVIDER_SECONDS.labels(self.purpose).observe(time.perf_counter() - began)


def configured(purpose: str) -> Provider | None:
    """The provider for this purpose, or None. A row decides where there is one, even an inactive one; else the
    environment. Costs a statement a second at most."""
    now = time.monotonic()
    with _known_lock:
        known = _known.get(purpose)
    if known is not None and now - known[0] < _GOOD_FOR_S:
        return known[1]
    row = ProviderSettings.objects.filter(purpose=purpose).first()
    found = from_environment(purpose) if row is None else (from_row(row) if row.is_active else None)
    with _known_lock:
        _known[purpose] = (now, found)
    return found


def forget() -> None:
    """Read settings anew at the next question, and forget pauses: after a change in this process."""
    with _known_lock:
        _known.clear()
        _paused.clear()


def close() -> None:
    """Forget, and end every connection to a provider."""
    forget()
    while _clients:
        _clients.popitem()[1].close()


def is_paused(purpose: str) -> bool:
    """Whether this process does not call the provider now, since it failed several times or asked for a pause."""
    with _known_lock:
        asked_for = _paused.get(purpose, 0.0) > time.monotonic()
    return asked_for or is_open(purpose)


def from_environment(purpose: str) -> Provider | None:
    given: dict[str, Any] = settings.PROVIDERS[purpose]
    if not given["kind"]:
        return None
    return _checked(Provider(purpose=purpose, **given))


def from_row(row: ProviderSettings) -> Provider:
    names = ("purpose", "kind", "base_url", "api_version", "model", "dimensions", "batch_size")
    limits = ("timeout_ms", "query_budget_ms", "requests_a_minute")
    given = {name: getattr(row, name) for name in (*names, *limits)}
    try:
        return _checked(Provider(**given, key=opened(row.key)))
    except Unsealable as error:
        return Provider(**given, trouble=str(error))


def problem(provider: Provider) -> str:
    """What is wrong with these settings and what to do, in a sentence; empty when nothing is."""
    kind, address = provider.kind, urlsplit(provider.base_url)
    if kind not in ProviderKind.values:
        return f"The kind of provider is {kind!r}; it is one of {', '.join(ProviderKind.values)}."
    if not provider.model:
        return "No model is named."
    if provider.base_url and (address.scheme not in ("http", "https") or not address.hostname):
        return "The address is http://... or https://..., as the provider's documentation gives it."
    if kind != ProviderKind.OPENAI and not provider.base_url:
        return f"A provider of kind {kind} needs its address."
    if kind == ProviderKind.AZURE and not provider.api_version:
        return "Azure needs the version of its API, such as 2024-10-21."
    if not (provider.key.isascii() and provider.key.isprintable()):
        return "The key holds characters that no key has."
    if kind != ProviderKind.COMPATIBLE and not provider.key:
        return f"A provider of kind {kind} needs a key."
    if provider.purpose == Purpose.EMBEDDER and not 1 <= provider.dimensions <= MAX_DIMENSIONS:
        return f"Vectors have 1 to {MAX_DIMENSIONS} dimensions."
    if not 1 <= provider.batch_size <= 2_048:
        return "A request carries 1 to 2048 texts."
    if min(provider.timeout_ms, provider.query_budget_ms) < 1 or provider.requests_a_minute < 0:
        return "Times are 1 ms or more, and requests a minute 0 (no limit) or more."
    return ""


def sealed(key: str) -> str:
    """A key as it is stored: `env:NAME` as it is, anything else encrypted by SECRET_KEY."""
    if not key or key.startswith(_ENV):
        return key
    return _SEALED + _fernet(settings.SECRET_KEY).encrypt(key.encode()).decode()


def opened(stored: str) -> str:
    """The key itself. Raises Unsealable with what to do."""
    if stored.startswith(_ENV):
        return _from_variable(stored.removeprefix(_ENV))
    if not stored:
        return ""
    from cryptography.fernet import InvalidToken  # noqa: PLC0415  9 MB that only a sealed key is worth

    try:
        return _fernet(settings.SECRET_KEY).decrypt(stored.removeprefix(_SEALED).encode()).decode()
    except (InvalidToken, ValueError):
        raise Unsealable(
            "The provider's key cannot be read: SECRET_KEY has changed since it was stored. Enter the key again."
        ) from None


def _from_variable(name: str) -> str:
    if not _KEY_VARIABLE.fullmatch(name):
        raise Unsealable("env:NAME names a variable that ends in _API_KEY, such as env:OPENAI_API_KEY.")
    if path := os.environ.get(f"{name}_FILE"):
        with contextlib.suppress(OSError):
            return Path(path).read_text().strip()
    if value := os.environ.get(name):
        return value
    raise Unsealable(f"{name} is not set in the environment of this process, so there is no key for the provider.")


def _checked(provider: Provider) -> Provider:
    found = problem(provider)
    return provider if not found else Provider(**{**vars(provider), "trouble": found})


@lru_cache(maxsize=2)
def _fernet(secret: str) -> "Fernet":
    from cryptography.fernet import Fernet  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"mem0stack: keys of providers")
    return Fernet(base64.urlsafe_b64encode(derived.derive(secret.encode())))


_threads = ThreadPoolExecutor(max_workers=_WAITING_QUERIES, thread_name_prefix="provider")
_slots = threading.BoundedSemaphore(_WAITING_QUERIES)
_known: dict[str, tuple[float, Provider | None]] = {}
_paused: dict[str, float] = {}
_known_lock = threading.Lock()


def _admit(provider: Provider, *, background: bool) -> None:
    """Raises ProviderAway when the provider asked for a pause, or this minute's requests are used up."""
    with _known_lock:
        left = _paused.get(provider.purpose, 0.0) - time.monotonic()
    if left > 0:
        raise ProviderAway("rate_limited", retry_after_s=left)
    allowed = provider.requests_a_minute
    if not allowed:
        return
    minute, second = divmod(time.time(), 60)
    used = _count_request(valkey.key("provider-requests", provider.purpose, int(minute)))
    if used > (max(1, math.floor(allowed * _BACKGROUND_SHARE)) if background else allowed):
        # No pause for everybody: a search may still have some left.
        raise ProviderAway("rate_limited", retry_after_s=60 - second)


def _count_request(name: str) -> int:
    """How many requests this minute has seen, over all processes; 0 while nobody can count them."""

    def count(client: Any) -> int:
        with client.pipeline() as both:
            both.incr(name)
            both.expire(name, 120)
            return int(both.execute()[0])

    return valkey.ask("provider", count, otherwise=0)


def _pause(purpose: str, seconds: float) -> None:
    with _known_lock:
        _paused[purpose] = max(_paused.get(purpose, 0.0), time.monotonic() + min(seconds, _LONGEST_PAUSE_S))


# One for each address and key that this process has met: few, and their connections are kept.
_clients: dict[tuple[str, ...], "openai.OpenAI"] = {}
_clients_lock = threading.Lock()


def _client(kind: str, base_url: str, api_version: str, key: str) -> "openai.OpenAI":
    with _clients_lock:
        name = (kind, base_url, api_version, key)
        if name not in _clients:
            _clients[name] = _new_client(*name)
        return _clients[name]


def _new_client(kind: str, base_url: str, api_version: str, key: str) -> "openai.OpenAI":
    import httpx2  # noqa: PLC0415  with openai 40 MB, and half a second, which nobody pays who has no provider
    import openai  # noqa: PLC0415

    http_client = httpx2.Client(
        # A redirect would carry texts, and perhaps the key, to an address that nobody entered.
        follow_redirects=False,
        limits=httpx2.Limits(max_connections=32, max_keepalive_connections=8, keepalive_expiry=60),
        event_hooks={"response": [_bound]},
    )
    # No retries: a request has no time for them, and a worker has its own.
    shared: dict[str, Any] = {"max_retries": 0, "http_client": http_client}
    if kind == ProviderKind.AZURE:
        return openai.AzureOpenAI(azure_endpoint=base_url, api_version=api_version, api_key=key, **shared)
    # Never nothing: openai would look for OPENAI_API_KEY and OPENAI_BASE_URL, and send the one to another's address.
    return openai.OpenAI(base_url=base_url or OPENAI_URL, api_key=key or "none", **shared)


def _bound(response: "httpx2.Response") -> None:
    """The time-out holds for the whole body, and no body is endless: a server that trickles is away, too."""
    import httpx2  # noqa: PLC0415

    seconds = response.request.extensions.get("timeout", {}).get("read")
    deadline = time.monotonic() + (seconds or 60.0)
    source: Any = response.stream

    class Bounded(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for chunk in source:
                size += len(chunk)
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("The body took too long.", request=response.request)
                if size > _MAX_REPLY_BYTES:
                    raise httpx2.DecodingError("The body is too long.", request=response.request)
                yield chunk

        def close(self) -> None:
            source.close()

    response.stream = Bounded()


@contextlib.contextmanager
def _translated(purpose: str) -> Iterator[None]:
    """openai's exceptions as ours. Their messages go no further: they quote what was sent."""
    import httpx2  # noqa: PLC0415
    import openai  # noqa: PLC0415

    try:
        yield
    except httpx2.InvalidURL:
        raise ProviderAway("unusable", "The provider's address is none.") from None
    except openai.APITimeoutError:
        raise ProviderAway("timeout") from None
    except openai.APIConnectionError:
        raise ProviderAway("refused") from None
    except openai.RateLimitError as error:
        seconds = _retry_after_s(error.response.headers)
        _pause(purpose, seconds)
        raise ProviderAway("rate_limited", retry_after_s=seconds) from None
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        raise ProviderAway("unauthorized", "The provider refuses the key.") from None
    except openai.APIStatusError as error:
        if error.status_code >= 500 or error.status_code in (408, 409):
            raise ProviderAway("failed", f"The provider answers {error.status_code}.") from None
        if error.status_code in (400, 413, 422):
            raise ProviderAway("rejected", f"The provider answers {error.status_code}.") from None
        raise ProviderAway("unusable", f"The provider knows no such address or model: {error.status_code}.") from None
    except (openai.OpenAIError, orjson.JSONDecodeError):
        raise ProviderAway("garbage", "The provider's answer is none.") from None


def _retry_after_s(headers: Mapping[str, str]) -> float:
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with contextlib.suppress(ValueError):
            seconds = float(headers.get(name, "")) / unit
            if math.isfinite(seconds) and seconds >= 0:
                return min(seconds, _LONGEST_PAUSE_S)
    return _PAUSE_S


def _parsed(response: Any) -> Any:
    return orjson.loads(response.content)


def _vectors(body: Any, count: int, dimensions: int) -> list[Vector]:
    """The vectors of an answer, in the order of the texts, each of length 1."""
    rows = body.get("data") if isinstance(body, dict) else None
    if not isinstance(rows, list) or len(rows) != count:
        raise ProviderAway("garbage", f"The provider's answer does not hold {count} vector(s).")
    if not all(isinstance(row, dict) and isinstance(row.get("embedding"), list) for row in rows):
        raise ProviderAway("garbage", "The provider's answer holds something else than vectors.")
    order = [row.get("index", place) for place, row in enumerate(rows)]
    if sorted(map(str, order)) != sorted(map(str, range(count))):
        raise ProviderAway("garbage", "The provider's vectors are not those of the texts.")
    lengths = {len(row["embedding"]) for row in rows}
    if lengths != {dimensions}:
        raise ProviderAway(
            "wrong_dimensions",
            f"The provider's vectors have {', '.join(map(str, sorted(lengths)))} dimensions, not {dimensions}.",
        )
    try:
        matrix = np.asarray([row["embedding"] for row in rows], dtype=np.float32)
    except (TypeError, ValueError):
        raise ProviderAway("garbage", "The provider's vectors are not made of numbers.") from None
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not np.isfinite(matrix).all() or not (norms > 0).all():
        raise ProviderAway("garbage", "The provider's vectors are empty or infinite.")
    placed: dict[int, Vector] = dict(zip(map(int, order), matrix / norms, strict=True))
    return [placed[place] for place in range(count)]


def _reply(body: Any) -> str:
    try:
        text = body["choices"][0]["message"]["content"]
    except (TypeError, KeyError, IndexError):
        text = None
    if not isinstance(text, str) or not text.strip():
        raise ProviderAway("garbage", "The provider's answer holds no text.")
    return text


def fingerprint(text: str) -> str:
    """A name for a text that tells nothing of it to who does not have SECRET_KEY."""
    key = hashlib.sha256(settings.SECRET_KEY.encode()).digest()
    return hashlib.blake2b(text.encode(), key=key, digest_size=20).hexdigest()
