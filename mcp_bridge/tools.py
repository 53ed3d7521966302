"""The nine tools that an agent calls: what each is told as, and what it does with the services and the search.

Each is a plain function of a connection and its arguments, and answers with text. Schemas are written out: they are
what every session pays for in tokens, and docs/mcp.md says what the words cannot.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from django.conf import settings

from accounts.actors import acting_as
from accounts.models import Scope
from mcp_bridge.arguments import Arguments
from mcp_bridge.connections import Connection
from mcp_bridge.lines import MAX_RESULT, detail, line, one_line, short_id, within
from mem0stack.lib.errors import InvalidArgument, Mem0Error, NothingValid
from mem0stack.lib.remotes import project_key
from memories import reading, services, short_ids
from memories.filters import Filter, parse
from memories.kinds import kind_of
from memories.models import PERSONAL, Kind, Memory, OutboxDelivery, Standing, Verdict
from memories.parts import overall, recent_parts
from memories.search import search
from memories.services import NewMemory, Outcome, Refused, Step
from memories.services.linking import BY_HAND

MAX_TEXT = 8_000
MAX_ITEMS = 50
MAX_TAGS = 10
MAX_TAG = 50
MAX_PROJECT = 200
MAX_KEY = 64


@dataclass(frozen=True)
class Answer:
    """What an agent reads; `is_error` when nothing of what was asked could be done."""

    text: str
    is_error: bool = False


@dataclass(frozen=True)
class Tool:
    """One tool as the protocol lists it, and what runs it."""

    name: str
    title: str
    description: str
    properties: Mapping[str, Any]
    run: Callable[[Connection, Arguments], Answer]
    required: Sequence[str] = ()
    scope: str = Scope.READ
    is_destructive: bool = False
    definitions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "object", "properties": dict(self.properties)}
        if self.required:
            schema["required"] = list(self.required)
        return schema | ({"$defs": dict(self.definitions)} if self.definitions else {})


def _text(description: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "string"} | ({"description": description} if description else {}) | more


def _texts(description: str = "", *, most: int) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "maxItems": most}
    return shape | ({"description": description} if description else {})


# Writing ------------------------------------------------------------------------------------------------------------


def add_memories(connection: Connection, given: Arguments) -> Answer:
    """Save one or several memories in one transaction; what cannot be saved says why, and the others are saved."""
    infer = given.flag("infer")
    key = given.text("idempotency_key", MAX_KEY) or None
    project, tags = _project(given), _tags(given)
    news: list[NewMemory | Mem0Error] = []
    if given.raw.get("text") not in (None, ""):
        news.append(_new(connection, given, project=project, tags=tags))
    for item in given.items("items", MAX_ITEMS, example='items=[{"text": "..."}]'):
        raw = item if isinstance(item, Mapping) else {"text": item}
        news.append(_new(connection, Arguments(raw), project=project, tags=tags))
    if not news:
        raise InvalidArgument('Give text, or items: text="Tests run with --reuse-db."', errors={"text": ["needed"]})
    steps = [Step("add", new=new) for new in news if isinstance(new, NewMemory)]
    # Run and time are not the caller's words: sent again from another run, it is the same request.
    asked = {"add_memories": {name: value for name, value in given.raw.items() if name != "idempotency_key"}}
    done = iter(_batch(connection, steps, infer=infer, idempotency_key=key, given=asked))
    outcomes = [Refused(new) if isinstance(new, Mem0Error) else next(done) for new in news]
    refused = _found_wrong(connection, outcomes)
    lines = [_saved(outcome, infer=infer, rejected=refused) for outcome in outcomes]
    return Answer(within(lines, rest="All were handled."), all(isinstance(one, Refused) for one in outcomes))


def _new(connection: Connection, given: Arguments, *, project: str, tags: Sequence[str]) -> NewMemory | Mem0Error:
    try:
        text = given.needed("text", MAX_TEXT, example='text="Tests run with --reuse-db."')
        kind = given.choice("kind", Kind.values) or kind_of(text)
        # What somebody prefers holds wherever they work, unless they say that it is this project's.
        namespace = PERSONAL if kind == Kind.PREFERENCE and not project else connection.namespace(project)
        return NewMemory(
            content=text,
            kind=kind,
            tags=list(dict.fromkeys([*_tags(given), *tags]))[:MAX_TAGS],
            namespace=namespace,
            run_id=connection.run_id(namespace),
            event_at=connection.said_at,
        )
    except Mem0Error as error:
        return error


def _batch(connection: Connection, steps: Sequence[Step], **options: Any) -> list[Outcome]:
    """The outcomes, also where none could be applied."""
    if not steps:
        return []
    try:
        return services.batch(connection.actor, steps, **options)
    except NothingValid as none:
        reasons = none.errors or {}
        return [Refused(_error(reasons[str(place)])) for place in range(len(steps))]


def _error(reason: Mapping[str, str]) -> Mem0Error:
    error = Mem0Error(reason["detail"])
    error.code = reason["code"]
    return error


def _found_wrong(connection: Connection, outcomes: Sequence[Outcome]) -> set[UUID]:
    """Which of the known ones were found wrong before: to save them again does not make them true."""
    known = [one.memory_id for one in outcomes if not isinstance(one, Refused) and one.is_duplicate]
    if not known:
        return set()
    with acting_as(connection.actor):
        rows = Memory.objects.owned_by(connection.actor).filter(id__in=known, standing=Standing.REJECTED)
        return set(rows.values_list("id", flat=True))


def _saved(outcome: Outcome, *, infer: bool, rejected: set[UUID]) -> str:
    if isinstance(outcome, Refused):
        return f"failed {outcome.error.code} {one_line(outcome.error.detail)}"
    shown = short_id(outcome.memory_id)
    if outcome.is_duplicate:
        return f"exists {shown} rejected" if outcome.memory_id in rejected else f"exists {shown}"
    return f"accepted {shown}" if infer else f"saved {shown}"


def update_memory(connection: Connection, given: Arguments) -> Answer:
    """Change text or tags of a memory, say that it was useful, wrong or outdated, or both."""
    memory_id = _meant(connection, given.needed("memory_id", 64, example="memory_id=a1b2c3d4"))
    text = given.text("text", MAX_TEXT)
    verdict = given.choice("verdict", Verdict.values)
    key = given.text("idempotency_key", MAX_KEY) or None
    changes: dict[str, Any] = {"content": text} if text.strip() else {}
    if given.raw.get("tags"):
        changes["tags"] = _tags(given)
    if not changes and not verdict:
        raise InvalidArgument("Give text, tags or a verdict.", errors={"text": ["needed"]})
    if changes:
        version = given.whole("expected_version", 0, 2**31 - 1, 0) or None
        services.update(connection.actor, memory_id, changes, expected_version=version, idempotency_key=key)
    if verdict:
        services.give_feedback(
            connection.actor, memory_id, verdict, idempotency_key=f"{key} verdict" if key is not None else None
        )
    with acting_as(connection.actor):
        version = Memory.objects.owned_by(connection.actor).filter(id=memory_id).values_list("version", flat=True).get()
    return Answer(f"updated {short_id(memory_id)} v{version}")


def delete_memories(connection: Connection, given: Arguments) -> Answer:
    """Take memories out of everything; they can be restored for 30 days."""
    references = given.texts("memory_ids", 100, 64, example='memory_ids=["a1b2c3d4"]')
    if not references:
        raise InvalidArgument('memory_ids is needed: memory_ids=["a1b2c3d4"].', errors={"memory_ids": ["needed"]})
    # Deleted ones too: what was deleted under this key is told again as it was.
    meant = short_ids.resolve(connection.actor, references, own=True, deleted=True)
    steps = [Step("delete", memory_id=one) for one in meant if isinstance(one, UUID)]
    key = given.text("idempotency_key", MAX_KEY) or None
    done = iter(_batch(connection, steps, idempotency_key=key))
    outcomes: list[Outcome] = [Refused(one) if isinstance(one, Mem0Error) else next(done) for one in meant]
    lines = [_deleted(given, one) for given, one in zip(references, outcomes, strict=True)]
    return Answer(within(lines, rest="All were handled."), all(isinstance(one, Refused) for one in outcomes))


def _deleted(reference: str, outcome: Outcome) -> str:
    shown = one_line(reference)
    if isinstance(outcome, Refused):
        if outcome.error.code == "not_found":
            return f"{shown} not found"
        return f"{shown} {outcome.error.code} {one_line(outcome.error.detail)}"
    return f"deleted {short_id(outcome.memory_id)}"


def delete_all_memories(connection: Connection, given: Arguments) -> Answer:
    """Delete everything of a project, or with "*" everything; without `confirm` only count."""
    project = _project(given)
    namespace = connection.namespace(project) or PERSONAL
    scope: dict[str, Any] = {"everything": True} if namespace == "*" else {"namespace": namespace}
    if not given.flag("confirm"):
        count = services.delete_all(connection.actor, dry_run=True, **scope)
        return Answer(f"{count} memories would be deleted. Call again with confirm=true only if the user asked for it.")
    count = services.delete_all(connection.actor, **scope)
    return Answer(f"deleted {count} memories; they can be restored for 30 days.")


def link_memories(connection: Connection, given: Arguments) -> Answer:
    """Say how one memory hangs together with another."""
    references = [given.needed(name, 64, example=f"{name}=a1b2c3d4") for name in ("source_id", "target_id")]
    relation = given.choice("relation", BY_HAND)
    if not relation:
        raise InvalidArgument(f"relation is one of {', '.join(BY_HAND)}.", errors={"relation": ["needed"]})
    source_id, target_id = (_meant(connection, reference) for reference in references)
    key = given.text("idempotency_key", MAX_KEY) or None
    services.link(connection.actor, source_id, target_id, relation, idempotency_key=key)
    return Answer(f"linked {short_id(source_id)} {relation} {short_id(target_id)}")


# Reading ------------------------------------------------------------------------------------------------------------


def search_memory(connection: Connection, given: Arguments) -> Answer:
    """Search by one or several queries; each memory is shown once, under the query that found it first."""
    queries = [*([one] if (one := given.text("query", 2_000).strip()) else []), *given.texts("queries", 5, 2_000)]
    if not queries:
        raise InvalidArgument('query is needed: query="how are the tests run".', errors={"query": ["needed"]})
    asked: dict[str, Any] = {
        "filters": _filters(given),
        "top_k": given.whole("top_k", 1, 50, 8),
        "threshold": given.number("threshold", 0, 1, 0),
        "namespace": connection.namespace(_project(given)),
    }
    lines: list[str] = []
    degraded: dict[str, None] = {}
    shown: set[UUID] = set()
    for query in queries:
        found = search(connection.actor, query, **asked)
        degraded |= dict.fromkeys(found.degraded)
        hits = [hit for hit in found.hits if hit.memory.id not in shown]
        shown.update(hit.memory.id for hit in hits)
        if len(queries) > 1:
            lines.append(f"# {one_line(query)}")
        lines += [line(hit.memory, connection.actor, score=hit.score) for hit in hits]
        if not hits:
            lines.append("No memories match." if not found.hits else "Only memories that are shown above.")
    if degraded:
        lines.insert(0, f"DEGRADED: {', '.join(degraded)} did not answer in time; ranked without.")
    return Answer(within(lines, rest="Ask with a smaller top_k, or fewer queries."))


def list_memories(connection: Connection, given: Arguments) -> Answer:
    """The newest memories, page by page."""
    found = reading.newest(
        connection.actor,
        filters=_filters(given),
        namespace=connection.namespace(_project(given)),
        limit=given.whole("limit", 1, 100, 20),
        cursor=given.text("cursor", 500) or None,
    )
    if not found.memories:
        return Answer("No memories yet." if not given.raw else "No memories match.")
    lines = [line(memory, connection.actor) for memory in found.memories]
    end = f"next cursor: {found.cursor}" if found.cursor else ""
    text = within(lines, rest="Ask with a smaller limit.", most=MAX_RESULT - len(end) - 1)
    return Answer(f"{text}\n{end}" if end else text)


def get_memories(connection: Connection, given: Arguments) -> Answer:
    """Memories in full, with their last changes and what they hang together with."""
    references = given.texts("memory_ids", 100, 64, example='memory_ids=["a1b2c3d4"]')
    if not references:
        raise InvalidArgument('memory_ids is needed: memory_ids=["a1b2c3d4"].', errors={"memory_ids": ["needed"]})
    meant = short_ids.resolve(connection.actor, references)
    ids = [one for one in meant if isinstance(one, UUID)]
    found = reading.details(connection.actor, ids, history=5, hops=given.whole("related", 0, 3, 0))
    lines: list[str] = []
    for reference, one in zip(references, meant, strict=True):
        if isinstance(one, UUID) and one in found:
            lines += detail(found[one], connection.actor, most=MAX_RESULT if len(ids) == 1 else 2_000)
        elif isinstance(one, Mem0Error) and one.code != "not_found":
            lines.append(f"{one_line(reference)} {one.code}: {one_line(one.detail)}")
        else:
            lines.append(f"{one_line(reference)} not found")
    return Answer(
        within(lines, rest="Ask for fewer at once.", most=MAX_RESULT + 1_000 if len(ids) == 1 else MAX_RESULT)
    )


def memory_status(connection: Connection, given: Arguments) -> Answer:
    """How the service is, part by part, and how much there is."""
    return Answer("\n".join(status_lines(connection)))


def status_lines(connection: Connection) -> list[str]:
    found = recent_parts()
    lines = [overall(found)]
    lines += [f"{name}: {part.status} {part.ms:.0f} ms{_why(part.detail)}" for name, part in found.items()]
    if found["database"].is_ok:
        with acting_as(connection.actor):
            count = Memory.objects.owned_by(connection.actor).alive().count()
            waiting = OutboxDelivery.objects.filter(owner_id=connection.actor.owner_id, state="waiting").count()
        lines += [f"memories: {count}", f"waiting jobs: {waiting}"]
    return [*lines, f"version: {settings.VERSION}"]


def _why(sentence: str) -> str:
    return f" ({one_line(sentence)})" if sentence else ""


# Shared by several ---------------------------------------------------------------------------------------------------


def _project(given: Arguments) -> str:
    return project_key(given.text("project", MAX_PROJECT))


def _tags(given: Arguments) -> list[str]:
    return given.texts("tags", MAX_TAGS, MAX_TAG, example='tags=["tests"]')


def _filters(given: Arguments) -> Filter:
    wanted: dict[str, Any] = {}
    if tags := _tags(given):
        wanted["tags"] = tags
    if since := given.moment("since"):
        wanted["event_at"] = {"gte": since.isoformat()}
    return parse(wanted or None)


def _meant(connection: Connection, reference: str) -> UUID:
    [one] = short_ids.resolve(connection.actor, [reference], own=True)
    if isinstance(one, Mem0Error):
        raise one
    return one


_PROJECT = _text('"" is this project, "*" all')
_TAGS = _texts(most=MAX_TAGS)
_KINDS: dict[Literal["enum"], list[str]] = {"enum": ["", *Kind.values]}
_KEY = _text("same key, same result")
_IDS = _texts("ids from search", most=100)

TOOLS: tuple[Tool, ...] = (
    Tool(
        "add_memories",
        "Save memories",
        "Save what is worth keeping across sessions: preferences, decisions with reasons, causes of bugs, non-obvious"
        " facts. One self-contained sentence each, several at once in items. No secrets, no file contents.",
        {
            "text": _text("one memory", maxLength=MAX_TEXT),
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "maxItems": MAX_ITEMS},
            "kind": _text("found by rules if empty", **_KINDS),
            "tags": _TAGS,
            "project": _PROJECT,
            "infer": {"type": "boolean", "default": False, "description": "extract facts later"},
            "idempotency_key": _KEY,
        },
        add_memories,
        scope=Scope.WRITE,
        definitions={
            "Item": {
                "type": "object",
                "properties": {
                    "text": _text(),
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "kind": _text(),
                },
                "required": ["text"],
            }
        },
    ),
    Tool(
        "search_memory",
        "Search memories",
        "Find what is remembered, best first: at the start of a task, and whenever an earlier preference, decision,"
        " path, command or error may be known. Several questions go into queries. Lines: ID SCORE DATE [tags] text.",
        {
            "query": _text(maxLength=2_000),
            "queries": _texts("more questions", most=5),
            "top_k": {"type": "integer", "minimum": 1, "maximum": 50, "default": 8},
            "tags": _TAGS,
            "project": _PROJECT,
            "since": _text("ISO date"),
            "threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
        },
        search_memory,
    ),
    Tool(
        "list_memories",
        "List memories",
        "The newest memories, page by page. To find something, use search_memory.",
        {
            "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
            "cursor": _text("from the page before"),
            "tags": _TAGS,
            "project": _PROJECT,
            "since": _text("ISO date"),
        },
        list_memories,
    ),
    Tool(
        "get_memories",
        "Read memories",
        "Memories in full by id, with their last changes and, with related, the memories they are linked to.",
        {
            "memory_ids": _IDS,
            "related": {"type": "integer", "minimum": 0, "maximum": 3, "default": 0, "description": "hops"},
        },
        get_memories,
        required=("memory_ids",),
    ),
    Tool(
        "update_memory",
        "Correct a memory",
        "Correct a memory instead of adding a second one. verdict: useful, wrong (never true) or outdated.",
        {
            "memory_id": _text(),
            "text": _text("new text", maxLength=MAX_TEXT),
            "tags": _TAGS,
            "verdict": _text(enum=["", *Verdict.values]),
            "expected_version": {"type": "integer", "minimum": 0, "default": 0},
        },
        update_memory,
        required=("memory_id",),
        scope=Scope.WRITE,
    ),
    Tool(
        "delete_memories",
        "Delete memories",
        "Delete by id; they can be restored for 30 days.",
        {"memory_ids": _IDS},
        delete_memories,
        required=("memory_ids",),
        scope=Scope.WRITE,
        is_destructive=True,
    ),
    Tool(
        "delete_all_memories",
        "Delete all memories",
        "Delete all of a project. Only if the user asked for exactly that; without confirm it counts.",
        {"confirm": {"type": "boolean", "default": False}, "project": _PROJECT},
        delete_all_memories,
        scope=Scope.WRITE,
        is_destructive=True,
    ),
    Tool(
        "link_memories",
        "Relate memories",
        "Say how two memories hang together: source is RELATION target. supersedes takes the target out of searches.",
        {"source_id": _text(), "target_id": _text(), "relation": _text(enum=list(BY_HAND))},
        link_memories,
        required=("source_id", "target_id", "relation"),
        scope=Scope.WRITE,
    ),
    Tool("memory_status", "Memory status", "Whether the memory works, and how much there is.", {}, memory_status),
)


def existing() -> dict[str, Tool]:
    """The tools that this service has, by name."""
    return {tool.name: tool for tool in TOOLS if settings.MCP_ALLOW_DELETE_ALL or tool.name != "delete_all_memories"}


def offered(connection: Connection) -> list[Tool]:
    """Those that this caller may use: a key that only reads is shown none that writes."""
    return [tool for tool in existing().values() if tool.scope in connection.actor.scopes]
