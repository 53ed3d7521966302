"""The shapes of the native REST API: what comes in, checked for form only, and what goes out, for the schema."""

from typing import Any

from rest_framework import serializers

from mem0stack.lib.rest import AwareDateTime, Boolean, Integer, Listed, Number, StrictSerializer, Text, Uuid
from memories.models import (
    LABEL_LENGTH,
    NAME_LENGTH,
    REASON_LENGTH,
    AccessAction,
    EntityKind,
    Event,
    Kind,
    OperationKind,
    OperationState,
    RelationKind,
    Standing,
    State,
    Verdict,
)
from memories.search import MAX_EXPAND, MAX_QUERY, MAX_TOP_K
from memories.services.linking import BY_HAND
from memories.services.once import MAX_KEY
from memories.services.writing import MAX_BATCH
from memories.texts import MAX_CATEGORIES, MAX_CONTENT, MAX_TAG, MAX_TAGS

MAX_MESSAGES = 1_000


def _label(**options: Any) -> Text:
    return Text(**{"required": False, "allow_null": True, "max_length": LABEL_LENGTH} | options)


def _moment(**options: Any) -> AwareDateTime:
    return AwareDateTime(**{"required": False, "allow_null": True} | options)


class Labelled(StrictSerializer):
    """What a caller may say of a memory beside its text."""

    kind = serializers.ChoiceField(choices=Kind.choices, required=False)
    metadata = serializers.DictField(required=False, help_text="Free JSON, up to 16 KiB.")
    tags = Listed(child=Text(max_length=MAX_TAG), max_length=MAX_TAGS, required=False)
    categories = Listed(child=Text(max_length=LABEL_LENGTH), max_length=MAX_CATEGORIES, required=False)
    namespace = Text(
        required=False,
        max_length=NAME_LENGTH * 2,
        help_text="A project; `personal` when left out. `alice/name` is hers.",
    )
    app = Text(required=False, max_length=LABEL_LENGTH)
    user_id = _label()
    agent_id = _label()
    run_id = _label()
    event_at = _moment()
    valid_from = _moment()
    valid_to = _moment()
    expires_at = _moment()
    pinned = Boolean(required=False)
    allow_secret = Boolean(required=False, help_text="Store the text although it looks like it holds a secret.")


class OneMemory(Labelled):
    """A memory to add."""

    content = Text(max_length=MAX_CONTENT)
    seq = Integer(required=False, allow_null=True, min_value=0, max_value=2**31 - 1, help_text="Its place in the run.")
    speaker = _label()


class Message(StrictSerializer):
    role = serializers.ChoiceField(choices=("user", "assistant", "system", "tool"))
    content = Text(max_length=MAX_CONTENT)
    name = _label(help_text="Who said it; the role where nobody says.")


class AddShape(OneMemory):
    """One memory by `content`, or a conversation by `messages`; one of the two."""

    content = Text(max_length=MAX_CONTENT, required=False)
    messages = Listed(child=Message(), min_length=1, max_length=MAX_MESSAGES, required=False)
    infer = Boolean(required=False, help_text="Have a model extract facts afterwards, where there is one.")
    idempotency_key = Text(required=False, max_length=MAX_KEY)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("content" in attrs) == ("messages" in attrs):
            raise serializers.ValidationError("Send one of content and messages.")
        if "messages" in attrs:
            lost = sorted({"kind", "seq", "speaker"} & set(attrs))
            if lost:
                raise serializers.ValidationError({name: ["Goes with content, not with messages."] for name in lost})
            if all(message["role"] == "system" for message in attrs["messages"]):
                raise serializers.ValidationError({"messages": ["All are system messages, which are not kept."]})
        return attrs


class Changes(StrictSerializer):
    """What of a memory to change; what is left out stays. null takes a value away."""

    content = Text(max_length=MAX_CONTENT, required=False)
    kind = serializers.ChoiceField(choices=Kind.choices, required=False)
    metadata = serializers.DictField(required=False, help_text="Replaces the whole metadata.")
    tags = Listed(child=Text(max_length=MAX_TAG), max_length=MAX_TAGS, required=False)
    categories = Listed(child=Text(max_length=LABEL_LENGTH), max_length=MAX_CATEGORIES, required=False)
    namespace = Text(required=False, max_length=NAME_LENGTH * 2)
    speaker = _label()
    event_at = AwareDateTime(required=False)
    valid_from = _moment()
    valid_to = _moment()
    expires_at = _moment()
    pinned = Boolean(required=False)
    state = serializers.ChoiceField(choices=[State.ACTIVE, State.PAUSED, State.ARCHIVED], required=False)
    standing = serializers.ChoiceField(choices=Standing.choices, required=False)
    superseded_by = Uuid(required=False, allow_null=True)


class UpdateShape(Changes):
    expected_version = Integer(required=False, min_value=1, max_value=2**31 - 1)
    allow_secret = Boolean(required=False)
    idempotency_key = Text(required=False, max_length=MAX_KEY)


class FeedbackShape(StrictSerializer):
    verdict = serializers.ChoiceField(choices=Verdict.choices)
    reason = Text(max_length=REASON_LENGTH, required=False, allow_blank=True)
    idempotency_key = Text(required=False, max_length=MAX_KEY)


class BatchShape(StrictSerializer):
    operations = Listed(
        child=serializers.DictField(),
        min_length=1,
        max_length=MAX_BATCH,
        help_text='{"op": "add", ...a memory}, {"op": "update", "id", ...changes}, {"op": "delete", "id"}',
    )
    atomic = Boolean(required=False, help_text="All or nothing.")
    idempotency_key = Text(required=False, max_length=MAX_KEY)


class BatchAdd(OneMemory):
    op = serializers.ChoiceField(choices=["add"])


class BatchUpdate(Changes):
    op = serializers.ChoiceField(choices=["update"])
    id = Uuid()
    expected_version = Integer(required=False, min_value=1, max_value=2**31 - 1)
    allow_secret = Boolean(required=False)


class BatchDelete(StrictSerializer):
    op = serializers.ChoiceField(choices=["delete"])
    id = Uuid()
    expected_version = Integer(required=False, min_value=1, max_value=2**31 - 1)


class SearchShape(StrictSerializer):
    query = Text(max_length=MAX_QUERY)
    top_k = Integer(required=False, min_value=1, max_value=MAX_TOP_K, default=10)
    filters = serializers.DictField(required=False, help_text="mem0's filter grammar; see docs/filters.md.")
    threshold = Number(required=False, min_value=0, max_value=1, default=0.0)
    namespace = Text(required=False, max_length=NAME_LENGTH * 2, help_text="This project and `personal`; `*` is all.")
    as_of = AwareDateTime(required=False)
    expand = Integer(required=False, min_value=0, max_value=MAX_EXPAND, default=0)
    explain = Boolean(required=False, default=False)
    token_budget = Integer(required=False, min_value=1, max_value=1_000_000)


class ShareShape(StrictSerializer):
    grantee = Text(max_length=150, help_text="The other user's name, or id.")
    memory = Uuid(required=False)
    namespace = Text(required=False, max_length=NAME_LENGTH)
    can_add = Boolean(required=False)
    expires_at = _moment()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("memory" in attrs) == ("namespace" in attrs):
            raise serializers.ValidationError("Name one thing to share: memory or namespace.")
        return attrs


class LinkShape(StrictSerializer):
    # DRF takes fields out of the class; `source` of a field itself stays.
    source = Uuid(help_text="The memory that the relation is said of.")  # type: ignore[assignment]
    relation = serializers.ChoiceField(choices=BY_HAND)
    target = Uuid()
    idempotency_key = Text(required=False, max_length=MAX_KEY)


class CategoryShape(StrictSerializer):
    name = Text(max_length=LABEL_LENGTH)
    description = Text(max_length=500, required=False, allow_blank=True)


class AppShape(StrictSerializer):
    is_active = Boolean()


# Replies. Written for the schema; the views make plain dictionaries, which is what a hot path can afford.


class MemoryReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    short_id = serializers.CharField()
    content = serializers.CharField()
    kind = serializers.ChoiceField(choices=Kind.choices)
    state = serializers.ChoiceField(choices=State.choices)
    standing = serializers.ChoiceField(choices=Standing.choices)
    superseded_by = serializers.UUIDField(allow_null=True)
    namespace = serializers.CharField(allow_null=True, help_text="null where only this memory is shared with you.")
    app = serializers.CharField(allow_null=True)
    user_id = serializers.CharField(allow_null=True)
    agent_id = serializers.CharField(allow_null=True)
    run_id = serializers.CharField(allow_null=True)
    seq = serializers.IntegerField(allow_null=True)
    speaker = serializers.CharField(allow_null=True)
    event_at = serializers.DateTimeField()
    valid_from = serializers.DateTimeField(allow_null=True)
    valid_to = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    pinned = serializers.BooleanField()
    metadata = serializers.DictField()
    tags = serializers.ListField(child=serializers.CharField())
    categories = serializers.ListField(child=serializers.CharField())
    importance = serializers.FloatField()
    confidence = serializers.FloatField()
    quality = serializers.FloatField()
    version = serializers.IntegerField()
    owner = serializers.CharField()
    written_by = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    archived_at = serializers.DateTimeField(allow_null=True)
    deleted_at = serializers.DateTimeField(allow_null=True)


class AddedReply(MemoryReply):
    operation = serializers.UUIDField(allow_null=True, help_text="What goes on after this reply, if anything does.")
    duplicate = serializers.BooleanField(required=False, help_text="true where the memory was known already.")


class WrittenReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    event = serializers.ChoiceField(choices=Event.choices)


class MessagesReply(serializers.Serializer[Any]):
    results = WrittenReply(many=True)
    operation = serializers.UUIDField(allow_null=True, help_text="What goes on after this reply, if anything does.")


class OperationReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=OperationKind.choices)
    state = serializers.ChoiceField(choices=OperationState.choices)
    error = serializers.CharField(
        allow_null=True, help_text="Why it was skipped, failed or is tried again: no_model, timeout, bad_answer, ..."
    )
    result = serializers.JSONField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class RelationReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    # DRF takes fields out of the class; `source` of a field itself stays.
    source = serializers.UUIDField(help_text="The memory that the relation is said of.")  # type: ignore[assignment]
    relation = serializers.ChoiceField(choices=RelationKind.choices)
    target = serializers.UUIDField()
    created_at = serializers.DateTimeField()


class EntityReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=EntityKind.choices)
    key = serializers.CharField(help_text="The canonical form; equal keys are the same thing.")
    name = serializers.CharField(help_text="As it was written first.")
    aliases = serializers.ListField(child=serializers.CharField(), help_text="Keys of what else it is called.")


class EntityMemoriesReply(serializers.Serializer[Any]):
    """An entity and a page of the memories that name it."""

    entity = EntityReply()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = MemoryReply(many=True)


class DigestReply(serializers.Serializer[Any]):
    results = MemoryReply(many=True)
    left_out = serializers.IntegerField(help_text="How many more there would be; at most 500 are counted.")


class FeedbackReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    verdict = serializers.ChoiceField(choices=Verdict.choices)
    memory = MemoryReply()


class OutcomeError(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()


class OutcomeReply(serializers.Serializer[Any]):
    op = serializers.CharField(allow_null=True)
    id = serializers.UUIDField(required=False)
    event = serializers.ChoiceField(choices=Event.choices, required=False)
    error = OutcomeError(required=False)


class BatchReply(serializers.Serializer[Any]):
    results = OutcomeReply(many=True)
    written = serializers.IntegerField()
    refused = serializers.IntegerField()


class DeletedReply(serializers.Serializer[Any]):
    deleted = serializers.IntegerField()
    dry_run = serializers.BooleanField()


class HistoryReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    event = serializers.ChoiceField(choices=Event.choices)
    by = serializers.CharField(allow_null=True)
    door = serializers.CharField()
    app = serializers.CharField(allow_null=True)
    version = serializers.IntegerField()
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField(allow_null=True)
    created_at = serializers.DateTimeField()


class AccessReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    action = serializers.ChoiceField(choices=AccessAction.choices)
    by = serializers.CharField()
    door = serializers.CharField()
    app = serializers.CharField(allow_null=True)
    request_id = serializers.CharField(allow_null=True)
    accessed_at = serializers.DateTimeField()


class SignalReply(serializers.Serializer[Any]):
    value = serializers.FloatField(help_text="What the signal says by itself.")
    share = serializers.FloatField(help_text="What of the score is due to it. All shares sum to the score.")


class HitReply(MemoryReply):
    score = serializers.FloatField(min_value=0, max_value=1)
    signals = serializers.DictField(child=SignalReply(), required=False, help_text="With explain.")
    neighbours = MemoryReply(many=True, required=False, help_text="With expand.")


class SearchReply(serializers.Serializer[Any]):
    results = HitReply(many=True)
    answerable = serializers.BooleanField()
    degraded = serializers.ListField(child=serializers.CharField())
    truncated = serializers.BooleanField(help_text="Hits were left out because of token_budget.")
    took_ms = serializers.FloatField()


class NearDuplicateReply(MemoryReply):
    score = serializers.FloatField(min_value=0, max_value=1, help_text="How alike the two are written.")


class NearDuplicatesReply(serializers.Serializer[Any]):
    results = NearDuplicateReply(many=True)


class ShareReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    owner = serializers.CharField()
    grantee = serializers.CharField()
    memory = serializers.UUIDField(allow_null=True)
    namespace = serializers.CharField(allow_null=True)
    can_add = serializers.BooleanField()
    expires_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    revoked_at = serializers.DateTimeField(allow_null=True)


class CategoryReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    memories = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class AppReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    is_active = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class NamespaceReply(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    owner = serializers.CharField()
    memories = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class StatsReply(serializers.Serializer[Any]):
    memories = serializers.IntegerField(help_text="All that are not deleted.")
    by_state = serializers.DictField(child=serializers.IntegerField())
    by_kind = serializers.DictField(child=serializers.IntegerField())
    by_standing = serializers.DictField(child=serializers.IntegerField())
    namespaces = serializers.IntegerField()
    apps = serializers.IntegerField()
    categories = serializers.IntegerField()
    shares_given = serializers.IntegerField()
    shares_received = serializers.IntegerField()
