import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models

from mem0stack.lib.rls import composite_key, protect


class Migration(migrations.Migration):
    dependencies = [
        ("memories", "0005_embedding_spaces"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        # With defaults in the database, or nullable, so that the release before goes on writing while this runs.
        migrations.AddField(
            model_name="operation",
            name="attempts",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="operation",
            name="not_before",
            field=models.DateTimeField(blank=True, help_text="When it is tried again after a failure.", null=True),
        ),
        migrations.AddField(
            model_name="operation",
            name="sources",
            field=django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), null=True, size=None),
        ),
        migrations.AddIndex(
            model_name="operation",
            index=models.Index(
                condition=models.Q(("state__in", ["waiting", "running"])),
                fields=["owner", "not_before"],
                name="operation_unfinished",
            ),
        ),
        migrations.CreateModel(
            name="Relation",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
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
                    "source",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="memories.memory",
                    ),
                ),
                (
                    "target",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="memories.memory",
                    ),
                ),
                ("relation", models.CharField(choices=[("derived_from", "Derived From")], max_length=16)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
        ),
        migrations.AddConstraint(
            model_name="relation",
            constraint=models.UniqueConstraint(fields=("owner", "source", "relation", "target"), name="relation_once"),
        ),
        migrations.AddConstraint(
            model_name="relation",
            constraint=models.CheckConstraint(
                condition=models.Q(("source", models.F("target")), _negated=True), name="relation_of_two"
            ),
        ),
        migrations.AddConstraint(
            model_name="relation",
            constraint=models.CheckConstraint(
                condition=models.Q(("relation__in", ["derived_from"])), name="relation_kind"
            ),
        ),
        migrations.AddIndex(
            model_name="relation",
            index=models.Index(fields=["owner", "target", "relation"], name="relation_by_target"),
        ),
        migrations.AddIndex(
            model_name="relation",
            index=models.Index(fields=["owner", "-created_at", "-id"], name="relation_by_creation"),
        ),
        composite_key("memories_relation", "source_id", "memories_memory", on_delete="CASCADE"),
        composite_key("memories_relation", "target_id", "memories_memory", on_delete="CASCADE"),
        protect("memories_relation"),
    ]
