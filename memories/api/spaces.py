"""REST v2 around memories: shares, namespaces, apps, categories, figures."""

from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.actors import Actor, acting_as
from accounts.authentication import actor_of
from mem0stack.lib.errors import InvalidArgument, NotFound
from mem0stack.lib.pagination import paginate
from mem0stack.lib.rest import refuse_unknown, validated
from mem0stack.lib.schema import PAGE_PARAMETERS, page_of, page_parameters
from memories import services
from memories.api import shapes
from memories.models import App, Category, Memory, MemoryCategory, Namespace, Share

_DIRECTIONS = ("given", "received")
_BY_NAME = ("name", "-name", "-created_at", "created_at")
_BY_TIME = ("-created_at", "created_at")


class Shares(APIView):
    @extend_schema(
        operation_id="shares_list",
        parameters=[
            *page_parameters(_BY_TIME),
            OpenApiParameter("direction", str, enum=_DIRECTIONS, description="Both when left out."),
        ],
        responses=page_of(shapes.ShareReply),
    )
    def get(self, request: Request) -> Response:
        """Shares that the caller gave, ended ones too, and those received that are in force."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS | {"direction"})
        direction = request.query_params.get("direction")
        if direction not in (None, *_DIRECTIONS):
            raise InvalidArgument("direction is given or received.", errors={"direction": ["unknown"]})
        actor = actor_of(request)
        with acting_as(actor):
            arms: list[QuerySet[Share]] = []
            if direction != "received":
                arms.append(Share.objects.given_by(actor))
            if direction != "given":
                arms.append(Share.objects.received_by(actor))
            page = paginate(request, [_with_names(arm) for arm in arms], orders=_BY_TIME)
            return Response(page.reply([_represent_share(share) for share in page.rows]))

    @extend_schema(
        operation_id="shares_add",
        request=shapes.ShareShape,
        responses={200: shapes.ShareReply, 201: shapes.ShareReply},
    )
    def post(self, request: Request) -> Response:
        """Let another user read one memory or one namespace; 200 when they could already."""
        given = validated(shapes.ShareShape, request.data)
        memory_id = given.pop("memory", None)
        share, created = services.share(actor_of(request), memory_id=memory_id, **given)
        return Response(_read_share(actor_of(request), share.id), status=201 if created else 200)


class OneShare(APIView):
    @extend_schema(operation_id="shares_get", responses=shapes.ShareReply)
    def get(self, request: Request, share_id: UUID) -> Response:
        """One share, given or received."""
        return Response(_read_share(actor_of(request), share_id))

    @extend_schema(operation_id="shares_revoke", responses={200: shapes.ShareReply})
    def delete(self, request: Request, share_id: UUID) -> Response:
        """End a share of the caller's, at once."""
        services.unshare(actor_of(request), share_id)
        return Response(_read_share(actor_of(request), share_id))


class Namespaces(APIView):
    @extend_schema(
        operation_id="namespaces_list", parameters=page_parameters(_BY_NAME), responses=page_of(shapes.NamespaceReply)
    )
    def get(self, request: Request) -> Response:
        """The caller's namespaces and those shared with them, with how many memories each holds."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS)
        actor = actor_of(request)
        with acting_as(actor):
            shared = Share.objects.received_by(actor).filter(namespace__isnull=False)
            arms = [_namespaces(actor), Namespace.objects.filter(id__in=shared.values("namespace_id"))]
            page = paginate(request, [arm.annotate(owner_name=F("owner__username")) for arm in arms], orders=_BY_NAME)
            counts = _counts(actor, [row.id for row in page.rows])
            return Response(
                page.reply(
                    [
                        {
                            "id": row.id,
                            "name": row.name,
                            "owner": row.owner_name,
                            "memories": counts.get(row.id, 0),
                            "created_at": row.created_at,
                        }
                        for row in page.rows
                    ]
                )
            )


class Apps(APIView):
    @extend_schema(operation_id="apps_list", parameters=page_parameters(_BY_NAME), responses=page_of(shapes.AppReply))
    def get(self, request: Request) -> Response:
        """The client programs that wrote the caller's memories."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS)
        actor = actor_of(request)
        with acting_as(actor):
            page = paginate(request, [_apps(actor)], orders=_BY_NAME)
            return Response(page.reply([_represent_app(app) for app in page.rows]))


class OneApp(APIView):
    @extend_schema(operation_id="apps_get", responses=shapes.AppReply)
    def get(self, request: Request, app_id: UUID) -> Response:
        """One app."""
        actor = actor_of(request)
        with acting_as(actor):
            app = _apps(actor).filter(id=app_id).first()
        if app is None:
            raise NotFound("There is no such app of yours.")
        return Response(_represent_app(app))

    @extend_schema(operation_id="apps_update", request=shapes.AppShape, responses=shapes.AppReply)
    def patch(self, request: Request, app_id: UUID) -> Response:
        """Let an app write, or keep it from writing."""
        given = validated(shapes.AppShape, request.data)
        return Response(_represent_app(services.set_app_active(actor_of(request), app_id, **given)))


class Categories(APIView):
    @extend_schema(
        operation_id="categories_list", parameters=page_parameters(_BY_NAME), responses=page_of(shapes.CategoryReply)
    )
    def get(self, request: Request) -> Response:
        """The caller's categories, with how many memories each has."""
        refuse_unknown(request.query_params, PAGE_PARAMETERS)
        actor = actor_of(request)
        with acting_as(actor):
            page = paginate(request, [_categories(actor)], orders=_BY_NAME)
            return Response(page.reply([_represent_category(row) for row in page.rows]))

    @extend_schema(
        operation_id="categories_add",
        request=shapes.CategoryShape,
        responses={200: shapes.CategoryReply, 201: shapes.CategoryReply},
    )
    def post(self, request: Request) -> Response:
        """Make a category; 200 when it is there already."""
        given = validated(shapes.CategoryShape, request.data)
        category, created = services.add_category(actor_of(request), given.pop("name"), **given)
        return Response(_read_category(actor_of(request), category.id), status=201 if created else 200)


class OneCategory(APIView):
    @extend_schema(operation_id="categories_get", responses=shapes.CategoryReply)
    def get(self, request: Request, category_id: UUID) -> Response:
        """One category."""
        return Response(_read_category(actor_of(request), category_id))

    @extend_schema(operation_id="categories_delete", responses={200: shapes.CategoryReply})
    def delete(self, request: Request, category_id: UUID) -> Response:
        """Take a category away; its memories stay."""
        category = _read_category(actor_of(request), category_id)
        services.delete_category(actor_of(request), category_id)
        return Response(category)


class Stats(APIView):
    @extend_schema(operation_id="stats", responses=shapes.StatsReply)
    def get(self, request: Request) -> Response:
        """How much the caller remembers."""
        refuse_unknown(request.query_params, set())
        actor = actor_of(request)
        with acting_as(actor):
            rows = Memory.objects.owned_by(actor)
            groups = list(rows.values_list("state", "kind", "standing").annotate(count=Count("id")).order_by())
            alive = [(kind, standing, count) for state, kind, standing, count in groups if state != "deleted"]
            return Response(
                {
                    "memories": sum(count for _, _, count in alive),
                    "by_state": _sums((state, count) for state, _, _, count in groups),
                    "by_kind": _sums((kind, count) for kind, _, count in alive),
                    "by_standing": _sums((standing, count) for _, standing, count in alive),
                    "namespaces": _namespaces(actor).count(),
                    "apps": _apps(actor).count(),
                    "categories": _categories(actor).count(),
                    "shares_given": Share.objects.given_by(actor).in_force().count(),
                    "shares_received": Share.objects.received_by(actor).count(),
                }
            )


def _with_names(shares: QuerySet[Share]) -> QuerySet[Any]:
    names = Namespace.objects.filter(owner_id=OuterRef("owner_id"), id=OuterRef("namespace_id")).values("name")
    return shares.annotate(
        owner_name=F("owner__username"), grantee_name=F("grantee__username"), namespace_name=Subquery(names)
    )


def _read_share(actor: Actor, share_id: UUID) -> dict[str, Any]:
    with acting_as(actor):
        received = Share.objects.received_by(actor).filter(id=share_id)
        mine = Share.objects.given_by(actor).filter(id=share_id)
        share = _with_names(mine).first() or _with_names(received).first()
        if share is None:
            raise NotFound("There is no such share, given or received.")
        return _represent_share(share)


def _represent_share(share: Any) -> dict[str, Any]:
    return {
        "id": share.id,
        "owner": share.owner_name,
        "grantee": share.grantee_name,
        "memory": share.memory_id,
        "namespace": share.namespace_name,
        "can_add": share.can_add,
        "expires_at": share.expires_at,
        "created_at": share.created_at,
        "revoked_at": share.revoked_at,
    }


def _represent_app(app: App) -> dict[str, Any]:
    return {"id": app.id, "name": app.name, "is_active": app.is_active, "created_at": app.created_at}


def _namespaces(actor: Actor) -> QuerySet[Namespace]:
    own = Namespace.objects.filter(owner_id=actor.owner_id)
    return own if actor.namespaces is None else own.filter(name__in=sorted(actor.namespaces))


def _apps(actor: Actor) -> QuerySet[App]:
    """The actor's apps; for a limited key, those that wrote into its namespaces."""
    apps = App.objects.filter(owner_id=actor.owner_id)
    if actor.namespaces is None:
        return apps
    return apps.filter(Exists(Memory.objects.owned_by(actor).filter(app_id=OuterRef("id"))))


def _categories(actor: Actor) -> QuerySet[Any]:
    """The actor's categories with how many memories each has; for a limited key, those of memories it sees."""
    categories = Category.objects.filter(owner_id=actor.owner_id)
    links = MemoryCategory.objects.filter(
        ~Q(memory__state="deleted"), owner_id=OuterRef("owner_id"), category_id=OuterRef("id")
    )
    if actor.namespaces is not None:
        links = links.filter(memory_id__in=Memory.objects.owned_by(actor).values("id"))
        categories = categories.filter(Exists(links))
    counted = links.order_by().values("category_id").annotate(count=Count("id")).values("count")
    return categories.annotate(memories=Coalesce(Subquery(counted), 0))


def _read_category(actor: Actor, category_id: UUID) -> dict[str, Any]:
    with acting_as(actor):
        category = _categories(actor).filter(id=category_id).first()
        if category is None:
            raise NotFound("There is no such category of yours.")
        return _represent_category(category)


def _represent_category(category: Any) -> dict[str, Any]:
    return {
        "id": category.id,
        "name": category.name,
        "description": category.description,
        "memories": category.memories,
        "created_at": category.created_at,
    }


def _counts(actor: Actor, namespace_ids: list[UUID]) -> dict[UUID, int]:
    counts: dict[UUID, int] = {}
    for arm in Memory.objects.arms(actor):
        rows = arm.alive().filter(namespace_id__in=namespace_ids).order_by().values_list("namespace_id")
        counts |= dict(rows.annotate(count=Count("id")))
    return counts


def _sums(pairs: Any) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, count in pairs:
        sums[name] = sums.get(name, 0) + count
    return sums
