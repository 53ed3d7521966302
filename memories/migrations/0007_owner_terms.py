import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from mem0stack.lib.rls import protect


class Migration(migrations.Migration):
    dependencies = [
        ("memories", "0006_relation_operation_attempts"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="memory",
            name="says_when",
            field=models.BooleanField(db_default=False, default=False, editable=False, help_text="It names a time."),
        ),
        migrations.AddField(
            model_name="ownerstatistics",
            name="changes",
            field=models.BigIntegerField(db_default=0, default=0, help_text="Writes since its terms were counted."),
        ),
        migrations.AddField(
            model_name="ownerstatistics",
            name="counted_memories",
            field=models.BigIntegerField(db_default=0, default=0, help_text="When its terms were counted last."),
        ),
        migrations.CreateModel(
            name="OwnerTerm",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "owner_id", "term", blank=True, editable=False, primary_key=True, serialize=False
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
                ("term", models.CharField(max_length=80)),
                (
                    "df",
                    models.PositiveIntegerField(help_text="Document frequency: the number of memories with this term."),
                ),
            ],
        ),
        protect("memories_ownerterm"),
        # Counted anew as it grows: most rows change a little, and what an index does not hold needs no new entry.
        migrations.RunSQL(
            "ALTER TABLE memories_ownerterm SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05)",
            "ALTER TABLE memories_ownerterm RESET (fillfactor, autovacuum_vacuum_scale_factor)",
        ),
    ]
