import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from mem0stack.lib.rls import composite_key, protect


class Migration(migrations.Migration):
    dependencies = [
        ("memories", "0007_owner_terms"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Entity",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("path", "Path"),
                            ("module", "Module"),
                            ("function", "Function"),
                            ("class", "Class"),
                            ("symbol", "Symbol"),
                            ("package", "Package"),
                            ("command", "Command"),
                            ("flag", "Flag"),
                            ("variable", "Variable"),
                            ("error", "Error"),
                            ("url", "URL"),
                            ("issue", "Issue"),
                            ("branch", "Branch"),
                            ("host", "Host"),
                            ("person", "Person"),
                            ("organisation", "Organisation"),
                            ("place", "Place"),
                            ("product", "Product"),
                            ("handle", "Handle"),
                            ("email", "E-mail"),
                            ("tag", "Tag"),
                            ("quote", "Quote"),
                            ("name", "Name"),
                            ("date", "Date"),
                        ],
                        max_length=16,
                    ),
                ),
                ("key", models.CharField(help_text="The canonical form, by which it is found.", max_length=96)),
                ("name", models.CharField(help_text="As it was written first.", max_length=120)),
                (
                    "aliases",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=96),
                        help_text="Keys of what else it is called; each is an entity too.",
                        null=True,
                        size=None,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "entities",
            },
        ),
        migrations.CreateModel(
            name="Mention",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "owner_id",
                        "entity_id",
                        "memory_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "entity",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="memories.entity",
                    ),
                ),
                (
                    "memory",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="memories.memory",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="entity",
            constraint=models.UniqueConstraint(fields=("owner", "id"), name="entity_key"),
        ),
        migrations.AddConstraint(
            model_name="entity",
            constraint=models.UniqueConstraint(fields=("owner", "key", "kind"), name="entity_once"),
        ),
        migrations.AddConstraint(
            model_name="entity",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "kind__in",
                        [
                            "path",
                            "module",
                            "function",
                            "class",
                            "symbol",
                            "package",
                            "command",
                            "flag",
                            "variable",
                            "error",
                            "url",
                            "issue",
                            "branch",
                            "host",
                            "person",
                            "organisation",
                            "place",
                            "product",
                            "handle",
                            "email",
                            "tag",
                            "quote",
                            "name",
                            "date",
                        ],
                    )
                ),
                name="entity_kind",
            ),
        ),
        migrations.AddIndex(
            model_name="mention",
            index=models.Index(fields=["owner", "memory"], name="mention_by_memory"),
        ),
        # No CASCADE: an entity goes only when nothing mentions it any more.
        composite_key("memories_mention", "entity_id", "memories_entity"),
        composite_key("memories_mention", "memory_id", "memories_memory", on_delete="CASCADE"),
        # A share shows the memory, never what its owner's memories have in common.
        protect("memories_entity"),
        protect("memories_mention"),
    ]
