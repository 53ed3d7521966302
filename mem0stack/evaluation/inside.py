"""What evaluation does within the product, as a process of its own with the scratch home: `python -m ... JOB`.

A job reads one JSON object from standard input and answers with JSON lines. `load` makes a user for each space and
stores its turns; `ask` puts every question to `search()` and to the baselines; `pools` tells what search ranks.
"""

import random
import signal
import sys
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import django
import orjson

TOP_K = 50
_APP = "evaluation"
_SEED = 1
# Candidates of an owner who has few memories.
_FEW = (1, 2, 3, 5, 8, 16, 32, 64)


def load(paths: list[Path]) -> None:
    """`{"space", "key"}` for each user made, `{"stored"}` for turns as they are stored."""
    from accounts.actors import Actor  # noqa: PLC0415  needs Django set up
    from accounts.services import create_api_key, create_user  # noqa: PLC0415
    from memories import portability  # noqa: PLC0415

    for space in _spaces(paths):
        user = create_user(space.name)
        _, key = create_api_key(user, name=_APP)
        _say(space=space.name, key=key)
        actor = Actor.of(user, door="command", app=_APP)
        loaded = portability.load(actor, space.turns, progress=lambda count: _say(stored=count))
        if loaded.added != len(space.turns):
            raise SystemExit(f"{space.name}: {loaded.added} of {len(space.turns)} were stored: {loaded.refused}")


def ask(paths: list[Path], ids: Mapping[str, Mapping[str, str]]) -> None:
    """A line for each question, in order: what was found with its score, how long it took, the baselines' rankings."""
    from mem0stack.evaluation.baselines import Corpus  # noqa: PLC0415  needs Django set up
    from memories.search import search  # noqa: PLC0415

    for space in _spaces(paths):
        actor, keys = _opened(space, ids)
        corpus = Corpus(actor)
        search(actor, "warm up")
        for question in space.questions:
            scope = _scope(question)
            began = time.perf_counter()
            result = search(actor, question.text, top_k=TOP_K, **scope)
            ms = (time.perf_counter() - began) * 1000
            others = corpus.rankings(question.text, namespace=question.namespace, is_past=question.is_past)
            _say(
                ms=round(ms, 3),
                answerable=result.answerable,
                found=[keys[hit.memory.id] for hit in result.hits],
                scores=[hit.score for hit in result.hits],
                baselines={name: [keys[id_] for id_ in ranking] for name, ranking in others.items()},
            )


def pools(paths: list[Path], ids: Mapping[str, Mapping[str, str]]) -> None:
    """For each question two pools, that of search and one of a few of its candidates, as an owner of a few memories
    would have it: keys, and a table of float64 with the signals, what nudges add, and similarity and coverage."""
    import numpy as np  # noqa: PLC0415

    from memories import ranking  # noqa: PLC0415  needs Django set up
    from memories.search import pool  # noqa: PLC0415

    draw = random.Random(_SEED)  # noqa: S311  no secret
    for space in _spaces(paths):
        actor, keys = _opened(space, ids)
        for asked in space.questions:
            question, whole = pool(actor, asked.text, **_scope(asked))
            lines = []
            for found in (whole, _few_of(whole, [keys[id_] in asked.answers for id_ in whole.ids], draw)):
                nudges = sum(ranking.nudges(question, found).values())
                columns = [ranking.columns(question, found), nudges, found.similarity, found.coverage]
                table = np.column_stack(columns).astype(np.float64)
                lines.append({"keys": [keys[id_] for id_ in found.ids], "table": b64encode(table.tobytes()).decode()})
            _say(pools=lines)


def _few_of(pool: Any, is_gold: list[bool], draw: random.Random) -> Any:
    """Some of the candidates in their order, in half of the cases with one that answers, where there is any."""
    gold = [place for place, answers in enumerate(is_gold) if answers]
    places = [place for place, answers in enumerate(is_gold) if not answers]
    places = draw.sample(places, min(len(places), draw.choice(_FEW)))
    if gold and draw.random() < 0.5:
        places = [draw.choice(gold), *places[1:]]
    return pool.at(sorted(places))


def _scope(question: Any) -> dict[str, Any]:
    """Where a question looks, and when it was asked."""
    from memories.filters import EVERYTHING, parse  # noqa: PLC0415  needs Django set up

    filters = parse({"standing": {"in": ["current", "superseded"]}}) if question.is_past else EVERYTHING
    return {"namespace": question.namespace, "filters": filters, "asked_at": question.asked_at}


def _opened(space: Any, ids: Mapping[str, Mapping[str, str]]) -> tuple[Any, dict[UUID, str]]:
    """The space's actor, and the key of each of its memories: facts were given theirs when they were sent."""
    from accounts.actors import Actor, acting_as  # noqa: PLC0415  needs Django set up
    from accounts.models import User  # noqa: PLC0415
    from memories.models import Memory  # noqa: PLC0415

    actor = Actor.of(User.objects.get(username=space.name), door="command", app=_APP)
    if space.facts:
        return actor, {UUID(id_): key for id_, key in ids[space.name].items()}
    with acting_as(actor):
        rows = Memory.objects.owned_by(actor).values_list("id", "metadata__dia_id")
        return actor, dict(rows)


def _spaces(paths: list[Path]) -> Iterator[Any]:
    from mem0stack.evaluation.sets import read_sets  # noqa: PLC0415  needs Django set up

    return (space for each in read_sets(paths) for space in each.spaces)


def _say(**what: Any) -> None:
    sys.stdout.write(orjson.dumps(what).decode() + "\n")
    sys.stdout.flush()


def main(job: str) -> None:
    # Ctrl-C reaches the whole terminal; whoever started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asked = orjson.loads(sys.stdin.read())
    paths = [Path(path) for path in asked["paths"]]
    django.setup()
    if job == "load":
        load(paths)
    elif job == "ask":
        from memories import ranking  # noqa: PLC0415  needs Django set up

        with ranking.using(ranking.load(asked["weights"] and Path(asked["weights"]))):
            ask(paths, asked["ids"])
    elif job == "pools":
        pools(paths, asked["ids"])
    else:
        raise SystemExit(f"There is no job {job!r}.")


if __name__ == "__main__":
    main(sys.argv[1])
