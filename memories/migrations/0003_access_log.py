import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models

from mem0stack.lib.rls import composite_key, protect


class Migration(migrations.Migration):
    dependencies = [
        ("memories", "0002_outbox_retries_operations_feedback"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="AccessLog",
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
                    "memory",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="memories.memory",
                    ),
                ),
                (
                    "accessed_by",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("door", models.CharField(max_length=16)),
                ("app", models.CharField(blank=True, max_length=128, null=True)),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("search", "Search"),
                            ("read", "Read"),
                            ("list", "List"),
                            ("staff_view", "Staff View"),
                        ],
                        max_length=16,
                    ),
                ),
                ("request_id", models.CharField(blank=True, max_length=128, null=True)),
                ("accessed_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={"verbose_name": "access", "verbose_name_plural": "access log"},
        ),
        migrations.AddIndex(
            model_name="accesslog",
            index=models.Index(fields=["owner", "memory", "-accessed_at", "-id"], name="access_by_memory"),
        ),
        migrations.AddIndex(
            model_name="accesslog",
            index=models.Index(fields=["owner", "-accessed_at", "-id"], name="access_by_owner"),
        ),
        migrations.AddConstraint(
            model_name="accesslog",
            constraint=models.CheckConstraint(
                condition=models.Q(("action__in", ["search", "read", "list", "staff_view"])), name="access_action"
            ),
        ),
        composite_key("memories_accesslog", "memory_id", "memories_memory", on_delete="CASCADE"),
        protect("memories_accesslog"),
    ]
