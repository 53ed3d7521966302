"""The routes of REST v2 that are about memories."""

from django.urls import path

from memories.api import digests, entities, native, operations, relations, spaces

urlpatterns = [
    path("memories/", native.Memories.as_view(), name="memories"),
    path("memories/batch/", native.Batch.as_view(), name="batch"),
    path("memories/<uuid:memory_id>/", native.OneMemory.as_view(), name="memory"),
    path("memories/<uuid:memory_id>/restore/", native.Restore.as_view(), name="restore"),
    path("memories/<uuid:memory_id>/history/", native.History.as_view(), name="history"),
    path("memories/<uuid:memory_id>/access/", native.Access.as_view(), name="access"),
    path("memories/<uuid:memory_id>/near-duplicates/", native.NearDuplicates.as_view(), name="near_duplicates"),
    path("memories/<uuid:memory_id>/feedback/", native.GiveFeedback.as_view(), name="feedback"),
    path("entities/", entities.Entities.as_view(), name="entities"),
    path("entities/<uuid:entity_id>/", entities.OneEntity.as_view(), name="entity"),
    path("operations/", operations.Operations.as_view(), name="operations"),
    path("operations/<uuid:operation_id>/", operations.OneOperation.as_view(), name="operation"),
    path("relations/", relations.Relations.as_view(), name="relations"),
    path("relations/<uuid:relation_id>/", relations.OneRelation.as_view(), name="relation"),
    path("digest/", digests.OneDigest.as_view(), name="digest"),
    path("search/", native.Search.as_view(), name="search"),
    path("shares/", spaces.Shares.as_view(), name="shares"),
    path("shares/<uuid:share_id>/", spaces.OneShare.as_view(), name="share"),
    path("categories/", spaces.Categories.as_view(), name="categories"),
    path("categories/<uuid:category_id>/", spaces.OneCategory.as_view(), name="category"),
    path("apps/", spaces.Apps.as_view(), name="apps"),
    path("apps/<uuid:app_id>/", spaces.OneApp.as_view(), name="app"),
    path("namespaces/", spaces.Namespaces.as_view(), name="namespaces"),
    path("stats/", spaces.Stats.as_view(), name="stats"),
]
