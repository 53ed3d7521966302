"""REST v2, the native dialect: who is asking and in which shape, nothing else. The services and the search decide."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.actors import Actor, acting_as
from accounts.authentication import actor_of
from accounts.models import Scope
from mem0stack.lib.errors import Forbidden, InvalidArgument, Mem0Error, NotFound, NothingValid
from mem0stack.lib.pagination import paginate
from mem0stack.lib.rest import first_sentence, idempotency_key, refuse_unknown, validated
from mem0stack.lib.schema import PAGE_PARAMETERS, page_of, page_parameters
from memories import access, near_duplicates, services
from memories.api import listing, shapes
from memories.filters import parse
from memories.models import AccessAction, AccessLog, Event, Kind, Memory, MemoryHistory, State
from memories.search import Hit, search
from memories.services import NewMemory, Refused, Step, Written

_BY_TIME = ("-created_at", "created_at")
_BY_ACCESS = ("-accessed_at", "accessed_at")


class Memories(APIView):
    """The caller's memories, and what others share with them."""

    @extend_schema(operation_id="memories_list", parameters=listing.PARAMETERS, responses=page_of(shapes.MemoryReply))
    def get(self, request: Request) -> Response:
        """List memories, newest first; every field is a filter."""
        actor = actor_of(request)
        wanted = listing.read(request.query_params)
        with acting_as(actor):
            arms = [wanted.narrow(arm, actor).with_names() for arm in Memory.objects.arms(actor)]
            page = paginate(request, arms, orders=listing.ORDERS)
            # To look through one's own says nothing of use; that another has seen them is for their owner to know.
            others = (memory for memory in page.rows if memory.owner_id != actor.owner_id)
            access.note(actor, AccessAction.LIST, others)
            return Response(page.reply([represent(memory, actor) for memory in page.rows]))

    @extend_schema(
        operation_id="memories_add",
        request=shapes.AddShape,
        responses={
            200: shapes.AddedReply,
            201: PolymorphicProxySerializer(
                "Added", [shapes.AddedReply, shapes.MessagesReply], resource_type_field_name=None
            ),
        },
    )
    def post(self, request: Request) -> Response:
        """Remember one thing, or the messages of a conversation."""
        actor = actor_of(request)
        given = validated(shapes.AddShape, request.data)
        key = idempotency_key(request, given)
        infer = given.pop("infer", False)
        if "messages" in given:
            written = services.add_many(actor, _messages(given, key), infer=infer, idempotency_key=key)
            results = [{"id": one.memory_id, "event": one.event} for one in written]
            return Response({"results": results, "operation": written[0].made_id}, status=201)
        one = services.add(actor, NewMemory(**given), infer=infer, idempotency_key=key)
        body = _one(actor, one.memory_id, even_deleted=True) | {"operation": one.made_id}
        if one.is_duplicate:
            return Response(body | {"duplicate": True}, status=200)
        return Response(body, status=201)

    @extend_schema(
        operation_id="memories_delete_all", parameters=listing.SCOPE_PARAMETERS, responses={200: shapes.DeletedReply}
    )
    def delete(self, request: Request) -> Response:
        """Delete every memory in an explicit scope; `dry_run=true` only counts them."""
        scope = listing.read_scope(request.query_params)
        count = services.delete_all(actor_of(request), **scope)
        return Response({"deleted": count, "dry_run": scope["dry_run"]})


class OneMemory(APIView):
    @extend_schema(operation_id="memories_get", responses=shapes.MemoryReply)
    def get(self, request: Request, memory_id: UUID) -> Response:
        """One memory, also when it has expired."""
        actor = actor_of(request)
        memory = _read(actor, memory_id)
        access.note(actor, AccessAction.READ, [memory])
        return Response(represent(memory, actor))

    @extend_schema(operation_id="memories_update", request=shapes.UpdateShape, responses=shapes.MemoryReply)
    def patch(self, request: Request, memory_id: UUID) -> Response:
        """Change the given fields."""
        actor = actor_of(request)
        changes = validated(shapes.UpdateShape, request.data)
        key = idempotency_key(request, changes)
        options = {name: changes.pop(name) for name in ("expected_version", "allow_secret") if name in changes}
        if not changes:
            raise _nothing_to_change()
        services.update(actor, memory_id, changes, idempotency_key=key, **options)
        return Response(_one(actor, memory_id, even_deleted=True))

    @extend_schema(
        operation_id="memories_delete", parameters=listing.VERSION_PARAMETERS, responses={200: shapes.WrittenReply}
    )
    def delete(self, request: Request, memory_id: UUID) -> Response:
        """Delete a memory; it can be restored for 30 days."""
        version = listing.read_version(request.query_params)
        key = idempotency_key(request, {})
        written = services.delete(actor_of(request), memory_id, expected_version=version, idempotency_key=key)
        return Response({"id": written.memory_id, "event": written.event})


class Restore(APIView):
    @extend_schema(operation_id="memories_restore", request=None, responses=shapes.MemoryReply)
    def post(self, request: Request, memory_id: UUID) -> Response:
        """Bring a deleted memory back."""
        services.restore(actor_of(request), memory_id, idempotency_key=idempotency_key(request, {}))
        return Response(_one(actor_of(request), memory_id))


class History(APIView):
    @extend_schema(
        operation_id="memories_history", parameters=page_parameters(_BY_TIME), responses=page_of(shapes.HistoryReply)
    )
    def get(self, request: Request, memory_id: UUID) -> Response:
        """Every change of a memory of the caller's own, newest first."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS)
        actor = actor_of(request)
        with acting_as(actor):
            memory = Memory.objects.visible_to(actor).filter(id=memory_id).only("id", "owner_id").first()
            if memory is None:
                raise _unknown()
            if memory.owner_id != actor.owner_id:
                raise Forbidden("The history of a memory is for its owner alone.")
            changes = MemoryHistory.objects.filter(owner_id=actor.owner_id, memory_id=memory_id).select_related("by")
            page = paginate(request, [changes], orders=_BY_TIME)
            return Response(page.reply([_represent_change(change) for change in page.rows]))


class Access(APIView):
    @extend_schema(
        operation_id="memories_access",
        parameters=page_parameters(_BY_ACCESS),
        responses=page_of(shapes.AccessReply),
    )
    def get(self, request: Request, memory_id: UUID) -> Response:
        """Who was shown a memory of the caller's own, newest first: a log of use, which may lack its last seconds."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS)
        actor = actor_of(request)
        with acting_as(actor):
            if not Memory.objects.owned_by(actor).filter(id=memory_id).exists():
                raise _unknown()
            found = AccessLog.objects.filter(owner_id=actor.owner_id, memory_id=memory_id).select_related("accessed_by")
            page = paginate(request, [found], orders=_BY_ACCESS)
            return Response(page.reply([_represent_access(one) for one in page.rows]))


class NearDuplicates(APIView):
    @extend_schema(operation_id="memories_near_duplicates", responses=shapes.NearDuplicatesReply)
    def get(self, request: Request, memory_id: UUID) -> Response:
        """The caller's own memories that say the same as this one in other words, the most alike first."""
        actor = actor_of(request)
        found = near_duplicates.find(actor, memory_id)
        return Response({"results": [represent(one.memory, actor) | {"score": one.score} for one in found]})


class GiveFeedback(APIView):
    @extend_schema(
        operation_id="memories_feedback", request=shapes.FeedbackShape, responses={201: shapes.FeedbackReply}
    )
    def post(self, request: Request, memory_id: UUID) -> Response:
        """Say that a memory is useful, wrong or outdated; the reply shows what became of it."""
        actor = actor_of(request)
        given = validated(shapes.FeedbackShape, request.data)
        key = idempotency_key(request, given)
        said = services.give_feedback(actor, memory_id, **given, idempotency_key=key)
        memory = _one(actor, memory_id, even_deleted=True)
        return Response({"id": said, "verdict": given["verdict"], "memory": memory}, status=201)


class Batch(APIView):
    @extend_schema(operation_id="memories_batch", request=shapes.BatchShape, responses=shapes.BatchReply)
    def post(self, request: Request) -> Response:
        """Up to 1,000 additions, changes and deletions in one transaction; what cannot be done says why."""
        given = validated(shapes.BatchShape, request.data)
        key = idempotency_key(request, given)
        atomic = given.get("atomic", False)
        read = [_step(raw) for raw in given["operations"]]
        bad = {place: one for place, one in enumerate(read) if isinstance(one, Refused)}
        if bad and (atomic or len(bad) == len(read)):
            raise NothingValid(
                "Nothing was written; `errors` says why for each operation that cannot be read.",
                errors={str(place): _error(one.error) for place, one in bad.items()},
            )
        good = {place: one for place, one in enumerate(read) if isinstance(one, Step)}
        try:
            done = iter(services.batch(actor_of(request), list(good.values()), atomic=atomic, idempotency_key=key))
        except NothingValid as error:
            # The service counted the operations that could be read; the caller counts those that were sent.
            reasons = dict(zip(good, (error.errors or {}).values(), strict=False))
            reasons |= {place: _error(one.error) for place, one in bad.items()}
            raise NothingValid(error.detail, errors={str(place): reasons[place] for place in sorted(reasons)}) from None
        outcomes = [one if isinstance(one, Refused) else next(done) for one in read]
        results = [_result(raw, outcome) for raw, outcome in zip(given["operations"], outcomes, strict=True)]
        refused = sum(isinstance(outcome, Refused) for outcome in outcomes)
        return Response({"results": results, "written": len(outcomes) - refused, "refused": refused})


class Search(APIView):
    required_scopes = {"POST": Scope.READ}

    @extend_schema(operation_id="search", request=shapes.SearchShape, responses=shapes.SearchReply)
    def post(self, request: Request) -> Response:
        """Find what is remembered about `query`, best first."""
        actor = actor_of(request)
        asked = validated(shapes.SearchShape, request.data)
        filters = parse(asked.pop("filters", None))
        found = search(actor, filters=filters, **asked)
        return Response(
            {
                "results": [
                    _represent_hit(hit, actor, explain=asked["explain"], expand=asked["expand"]) for hit in found.hits
                ],
                "answerable": found.answerable,
                "degraded": found.degraded,
                "truncated": found.truncated,
                "took_ms": found.took_ms,
            }
        )


def represent(memory: Memory, actor: Actor) -> dict[str, Any]:
    """A memory as JSON. Its readers do not see what belongs to its owner alone: metadata, labels, app, categories.

    Plain dictionaries: a serializer on this path halves the requests a second.
    """
    row: Any = memory
    own = actor.is_system or memory.owner_id == actor.owner_id
    return {
        "id": memory.id,
        "short_id": memory.short_id,
        "content": memory.content,
        "kind": memory.kind,
        "state": memory.state,
        "standing": memory.standing,
        "superseded_by": memory.superseded_by_id if own else None,
        "namespace": row.namespace_name,
        "app": row.app_name if own else None,
        "user_id": memory.user_id if own else None,
        "agent_id": memory.agent_id if own else None,
        "run_id": memory.run_id,
        "seq": memory.seq,
        "speaker": memory.speaker,
        "event_at": memory.event_at,
        "valid_from": memory.valid_from,
        "valid_to": memory.valid_to,
        "expires_at": memory.expires_at,
        "pinned": memory.pinned_at is not None,
        "metadata": memory.metadata if own else {},
        "tags": memory.tags,
        "categories": row.category_names if own else [],
        "importance": memory.importance,
        "confidence": memory.confidence,
        "quality": memory.quality,
        "version": memory.version,
        "owner": row.owner_name,
        "written_by": row.writer_name if own else None,
        "created_at": memory.created_at,
        "updated_at": memory.updated_at,
        "archived_at": memory.archived_at,
        "deleted_at": memory.deleted_at,
    }


def _one(actor: Actor, memory_id: UUID, *, even_deleted: bool = False) -> dict[str, Any]:
    return represent(_read(actor, memory_id, even_deleted=even_deleted), actor)


def _read(actor: Actor, memory_id: UUID, *, even_deleted: bool = False) -> Any:
    """The Memory, `with_names`."""
    with acting_as(actor):
        # Nearly always it is the actor's own, which needs no look at what others share.
        for memory in Memory.objects.all().named_by_id([actor.owner_id], [memory_id]):
            if actor.may_use(memory.namespace_name) and (even_deleted or memory.state != State.DELETED):
                return memory
        rows = Memory.objects.visible_to(actor)
        memory = (rows if even_deleted else rows.alive()).filter(id=memory_id).with_names().first()
        if memory is None:
            raise _unknown()
        return memory


def _unknown() -> NotFound:
    return NotFound("There is no such memory, or none that you may see. Search for it, or list your memories.")


def _nothing_to_change() -> InvalidArgument:
    return InvalidArgument("Name what to change: content, tags, metadata, state, ...")


def _messages(given: Mapping[str, Any], key: str | None) -> list[NewMemory]:
    """One memory for each message that is not a system one, in one run, in their order."""
    shared = {name: value for name, value in given.items() if name != "messages"}
    shared["run_id"] = shared.get("run_id") or services.new_run_id(key)
    return [
        NewMemory(
            content=message["content"], kind=Kind.MESSAGE, speaker=message.get("name") or message["role"], **shared
        )
        for message in given["messages"]
        if message["role"] != "system"
    ]


def _step(raw: Mapping[str, Any]) -> Step | Refused:
    shape = {"add": shapes.BatchAdd, "update": shapes.BatchUpdate, "delete": shapes.BatchDelete}.get(str(raw.get("op")))
    try:
        if shape is None:
            raise InvalidArgument("op is add, update or delete.")
        given = validated(shape, raw)
    except ValidationError as error:
        return Refused(InvalidArgument(first_sentence(error.detail)))
    except Mem0Error as error:
        return Refused(error)
    op = given.pop("op")
    if op == "add":
        return Step("add", new=NewMemory(**given))
    memory_id, version = given.pop("id"), given.pop("expected_version", None)
    allow_secret = given.pop("allow_secret", False)
    if op == "update" and not given:
        return Refused(_nothing_to_change())
    return Step(op, memory_id=memory_id, changes=given, expected_version=version, allow_secret=allow_secret)


def _result(raw: Mapping[str, Any], outcome: Written | Refused) -> dict[str, Any]:
    op = raw.get("op") if isinstance(raw.get("op"), str) else None
    if isinstance(outcome, Refused):
        return {"op": op, "error": _error(outcome.error)}
    return {"op": op, "id": outcome.memory_id, "event": outcome.event}


def _error(error: Mem0Error) -> dict[str, str]:
    return {"code": error.code, "detail": error.detail}


def _represent_hit(hit: Hit, actor: Actor, *, explain: bool, expand: int) -> dict[str, Any]:
    body = represent(hit.memory, actor) | {"score": hit.score}
    if explain:
        body["signals"] = {
            name: {"value": round(signal.value, 4), "share": round(signal.share, 4)}
            for name, signal in hit.signals.items()
        }
    if expand:
        body["neighbours"] = [represent(memory, actor) for memory in hit.neighbours]
    return body


def _represent_change(change: MemoryHistory) -> dict[str, Any]:
    return {
        "id": change.id,
        "event": Event(change.event),
        "by": change.by.username if change.by else None,
        "door": change.door,
        "app": change.app,
        "version": change.version,
        "before": change.before,
        "after": change.after,
        "created_at": change.created_at,
    }


def _represent_access(one: AccessLog) -> dict[str, Any]:
    return {
        "id": one.id,
        "action": one.action,
        "by": one.accessed_by.username,
        "door": one.door,
        "app": one.app,
        "request_id": one.request_id,
        "accessed_at": one.accessed_at,
    }
