"""What the bench does within the product, as processes of their own with the bench's home: `python -m ... JOB`.

`fill NUMBERS` makes those owners and stores their memories through the services, `floor SECONDS` runs the SQL of
searches with nothing around it, `curve SEARCHES` so many searches of each owner. All answer with JSON lines. None can
be done by the command itself: its Django belongs to the home it was called with.
"""

import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any

import django
import orjson
from django.conf import settings

from mem0stack.bench.corpus import Owner, owners_of
from mem0stack.bench.figures import Usage, percentiles

_CHUNK = 1_000
_SEARCHES = 200
_WARM_UP = 10
_Statements = list[str]


def fill(chosen: Sequence[Owner]) -> None:
    """A user with a key for each, then the memories, by the way everything is written: `services.batch`."""
    from accounts.actors import Actor  # noqa: PLC0415  needs Django set up
    from accounts.services import create_api_key, create_user  # noqa: PLC0415
    from memories import portability  # noqa: PLC0415
    from memories.services import NewMemory  # noqa: PLC0415

    for owner in chosen:
        user = create_user(owner.name)
        _, key = create_api_key(user, name="bench")
        _say(owner=owner.number, key=key)
        actor = Actor.of(user, door="command", app="bench")
        for start in range(0, owner.size, _CHUNK):
            places = range(start, min(owner.size, start + _CHUNK))
            memories = [NewMemory(**owner.memory(place)) for place in places]
            loaded = portability.load(actor, memories, progress=lambda count: _say(stored=count))
            if loaded.added != len(memories):
                raise SystemExit(f"{owner.name}: {loaded.added} of {len(memories)} were stored: {loaded.refused}")


def floor(everybody: Sequence[Owner], seconds: float, seed: int) -> None:
    """The statements of searches, as PostgreSQL got them, once more over bare connections of the service's role."""
    searches = _record(everybody, seed)
    rows = [_replay(searches, clients=clients, seconds=seconds) for clients in (1, 8)]
    _say(rows=rows, statements=len(searches[0]))


def curve(everybody: Sequence[Owner], searches: int, seed: int) -> None:
    """Searches of each owner by the function that every door calls, and the part of them that is the lexical arm's."""
    from accounts.actors import Actor  # noqa: PLC0415  needs Django set up
    from accounts.models import User  # noqa: PLC0415
    from memories.search import search  # noqa: PLC0415

    draw = random.Random(seed)  # noqa: S311  no secret
    users = {user.username: user for user in User.objects.filter(username__startswith="bench")}
    usage = Usage(settings.HOME.root)
    for owner in everybody:
        actor = Actor.of(users[owner.name], door="rest", app="bench")
        queries = [owner.query(draw.randrange(owner.size), draw) for _ in range(_WARM_UP + searches)]
        for query in queries[:_WARM_UP]:
            search(actor, query)
        ms = []
        python_s, postgres_s = time.process_time(), usage.cpu_s()["postgres"]
        for query in queries[_WARM_UP:]:
            began = time.perf_counter()
            search(actor, query)
            ms.append((time.perf_counter() - began) * 1000)
        python_s, postgres_s = time.process_time() - python_s, usage.cpu_s()["postgres"] - postgres_s
        _say(
            memories=owner.size,
            searches=searches,
            whole=percentiles(ms),
            lexical=percentiles(_lexical_ms(actor, query) for query in queries[_WARM_UP:]),
            cpu_ms={"python": round(1000 * python_s / searches, 2), "postgres": round(1000 * postgres_s / searches, 2)},
        )


def _lexical_ms(actor: Any, query: str) -> float:
    """Of a search's statements, the time until the postings of the query's words are counted and scored."""
    from django.db import connection  # noqa: PLC0415  needs Django set up

    from accounts.actors import acting_as  # noqa: PLC0415

    with acting_as(actor), connection.cursor() as cursor:
        [statement] = [sql for sql in _statements_of(actor, query) if "memories_memoryterm" in sql]
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        [(plans,)] = cursor.fetchall()
    found = plans if isinstance(plans, list) else orjson.loads(plans)
    return max(_lexical_parts(found[0]["Plan"], {"memories_memoryterm"}), default=0.0)


def _lexical_parts(plan: dict[str, Any], lexical: set[str]) -> Iterator[float]:
    """Milliseconds of each common table expression that reads postings, or another such one, and nothing else."""
    for part in plan.get("Plans", ()):
        yield from _lexical_parts(part, lexical)
    name = plan.get("Subplan Name", "")
    if name.startswith("CTE "):
        # The policies' own look-ups are in the plan, and are not made for one's own rows.
        read = {
            node[kind]
            for node in _nodes(plan)
            for kind in ("Relation Name", "CTE Name")
            if kind in node and node["Actual Loops"]
        }
        if read and read <= lexical:
            lexical.add(name.removeprefix("CTE "))
            yield float(plan["Actual Total Time"])


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _record(everybody: Sequence[Owner], seed: int) -> list[_Statements]:
    from django.db import connection  # noqa: PLC0415  needs Django set up

    from accounts.actors import Actor  # noqa: PLC0415
    from accounts.models import User  # noqa: PLC0415

    draw = random.Random(seed)  # noqa: S311  no secret
    users = {user.username: user for user in User.objects.filter(username__startswith="bench")}
    searches: list[_Statements] = []
    for _ in range(_SEARCHES):
        owner = draw.choice(everybody)
        actor = Actor.of(users[owner.name], door="rest", app="bench")
        searches.append(_statements_of(actor, owner.query(draw.randrange(owner.size), draw)))
    connection.close()
    return searches


def _statements_of(actor: Any, query: str) -> _Statements:
    """What a search sends, as PostgreSQL gets it."""
    from django.db import connection  # noqa: PLC0415  needs Django set up

    from mem0stack.lib import prepared  # noqa: PLC0415
    from memories.search import search  # noqa: PLC0415

    statements: _Statements = []

    def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(prepared.spelt(sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        search(actor, query)
    return statements


def _replay(searches: Sequence[_Statements], *, clients: int, seconds: float) -> dict[str, Any]:
    taken: list[float] = []
    by_statement: list[list[float]] = [[] for _ in range(max(map(len, searches)))]
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        with _connect() as connection, connection.cursor() as cursor:
            for statements in islice(cycle(searches), number * len(searches) // clients, None):
                began = time.perf_counter()
                if began > end:
                    return
                before = began
                for place, statement in enumerate(statements):
                    cursor.execute(statement)
                    if cursor.description:
                        cursor.fetchall()
                    now = time.perf_counter()
                    by_statement[place].append((now - before) * 1000)
                    before = now
                connection.commit()
                taken.append((time.perf_counter() - began) * 1000)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    per_second = len(taken) / (time.perf_counter() - began)
    return {
        "call": "SQL of a search, no service",
        "clients": clients,
        "count": len(taken),
        "errors": 0,
        **percentiles(taken),
        "per_second": round(per_second, 1),
        "mean_ms_by_statement": [round(sum(ms) / max(1, len(ms)), 2) for ms in by_statement],
    }


def _connect() -> Any:
    import psycopg  # noqa: PLC0415  the other job needs none

    config = settings.DATABASES["default"]
    return psycopg.connect(
        host=config["HOST"],
        port=config["PORT"] or None,
        dbname=config["NAME"],
        user=config["USER"],
        password=config["PASSWORD"] or None,
        options=config["OPTIONS"]["options"],
        cursor_factory=psycopg.ClientCursor,
        prepare_threshold=None,
    )


def _say(**what: Any) -> None:
    sys.stdout.write(orjson.dumps(what).decode() + "\n")
    sys.stdout.flush()


def main(job: str, sizes: str, seed: int, argument: str) -> None:
    everybody = owners_of([int(size) for size in sizes.split(",")], seed)
    django.setup()
    if job == "fill":
        fill([everybody[int(number)] for number in argument.split(",")])
    elif job == "curve":
        curve(everybody, int(argument), seed)
    else:
        floor(everybody, float(argument), seed)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
