"""What the service counts and times while it works. docs/metrics.md says what each means.

Every process writes its own file below PROMETHEUS_MULTIPROC_DIR, which `mem0stack/metrics.py` adds up. Without that
variable, as in commands and tests, the figures stay in the process. Labels are words of ours, never a caller's.
"""

from prometheus_client import Counter, Gauge, Histogram

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STAGE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_EMBEDDING_BUCKETS = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)

REQUEST_SECONDS = Histogram(
    "mem0_http_request_seconds",
    "Time from a request's arrival in Django to its reply.",
    ["method", "route", "status"],
    buckets=_REQUEST_BUCKETS,
)
# livesum: what a killed process had in hand is in nobody's hand any more.
REQUESTS_IN_PROGRESS = Gauge(
    "mem0_http_requests_in_progress", "Requests that are being answered now.", multiprocess_mode="livesum"
)
CALLS_LIMITED = Counter("mem0_calls_limited", "Calls that were one too many in their minute for their key.")
DATABASE_FAILURES = Counter(
    "mem0_database_failures",
    "REST requests answered 503 or 507, by the reply's code: unavailable, timeout or storage_full.",
    ["code"],
)
LATE_REQUESTS = Counter(
    "mem0_late_requests",
    "Requests ended at their deadline, by what they were at: body (waiting for it) or work.",
    ["phase"],
)
MCP_CALL_SECONDS = Histogram(
    "mem0_mcp_call_seconds",
    "Time of an agent's tool call, by tool and outcome: ok, failed (nothing of it could be done) or the error's code.",
    ["tool", "outcome"],
    buckets=_REQUEST_BUCKETS,
)
SEARCH_STAGE_SECONDS = Histogram(
    "mem0_search_stage_seconds",
    "Time of a search's stages: embed, candidates, rank, read.",
    ["stage"],
    buckets=_STAGE_BUCKETS,
)
SEARCHES_DEGRADED = Counter(
    "mem0_searches_degraded", "Searches that were answered without a part that was away: embedder.", ["part"]
)
EMBEDDING_SECONDS = Histogram(
    "mem0_embedding_seconds",
    "Time to turn the texts of one call into vectors: documents or query.",
    ["what"],
    buckets=_EMBEDDING_BUCKETS,
)
WRITES = Counter("mem0_writes", "Changes to memories that have committed, by history event.", ["event"])
OUTBOX_DELIVERIES = Counter(
    "mem0_outbox_deliveries",
    "Outbox deliveries by consumer and outcome: done, failed (tried again), dead (given up).",
    ["consumer", "outcome"],
)
ACCESSES = Counter(
    "mem0_accesses", "Rows of the access log: written, or dropped because they could not be.", ["outcome"]
)
CACHE_LOOKUPS = Counter(
    "mem0_cache_lookups", "Look-ups in what a process keeps: keys or query_vectors, hit or miss.", ["cache", "outcome"]
)
CACHE_FAILURES = Counter(
    "mem0_cache_failures", "Times that something went on without Valkey, by what it was.", ["operation"]
)
PROVIDER_CALLS = Counter(
    "mem0_provider_calls",
    "Requests to a provider by purpose (embedder, model) and outcome: ok, or the word for what was wrong.",
    ["purpose", "outcome"],
)
PROVIDER_SECONDS = Histogram(
    "mem0_provider_seconds",
    "Time of a request to a provider, by purpose: embedder or model.",
    ["purpose"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# mostrecent: whichever worker built one last.
VECTOR_INDEX_BUILD_SECONDS = Gauge(
    "mem0_vector_index_build_seconds",
    "How long the last vector index of an owner took to build; absent before the first.",
    multiprocess_mode="mostrecent",
)
# livemax: as long as one living process finds it away.
BREAKER_OPEN = Gauge(
    "mem0_breaker_open",
    "1 while a process does not try this part because it failed several times in a row, else 0.",
    ["part"],
    multiprocess_mode="livemax",
)

# There from the start with 0, so that the first one is a rise.
for _code in ("unavailable", "timeout", "storage_full"):
    DATABASE_FAILURES.labels(_code)
for _outcome in ("written", "dropped"):
    ACCESSES.labels(_outcome)
for _operation in (
    "nudge",
    "forget_nudge",
    "heartbeat",
    "provider",
    "keys_version",
    "forget_keys",
    "rate_limit",
    "queue_depth",
    "mcp_run",
):
    CACHE_FAILURES.labels(_operation)
SEARCHES_DEGRADED.labels("embedder")
MCP_CALL_SECONDS.labels("search_memory", "ok")
for _purpose in ("embedder", "model"):
    PROVIDER_CALLS.labels(_purpose, "ok")
    PROVIDER_SECONDS.labels(_purpose)
for _cache in ("keys", "query_vectors"):
    for _found in ("hit", "miss"):
        CACHE_LOOKUPS.labels(_cache, _found)
for _phase in ("body", "work"):
    LATE_REQUESTS.labels(_phase)
for _part in ("postgres", "valkey", "embedder", "model"):
    BREAKER_OPEN.labels(_part)
