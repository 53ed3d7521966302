from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("memories", "0009_owner_vector_index"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="memoryhistory",
            name="history_event",
        ),
        migrations.RemoveConstraint(
            model_name="relation",
            name="relation_kind",
        ),
        migrations.AlterField(
            model_name="memoryhistory",
            name="event",
            field=models.CharField(
                choices=[
                    ("ADD", "Add"),
                    ("UPDATE", "Update"),
                    ("DELETE", "Delete"),
                    ("RESTORE", "Restore"),
                    ("STATE", "State"),
                    ("CONFIRM", "Confirm"),
                    ("SUPERSEDE", "Supersede"),
                    ("REJECT", "Reject"),
                    ("MERGE", "Merge"),
                    ("SHARE", "Share"),
                    ("LINK", "Link"),
                    ("UNLINK", "Unlink"),
                ],
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="relation",
            name="relation",
            field=models.CharField(
                choices=[
                    ("derived_from", "Derived From"),
                    ("relates_to", "Relates To"),
                    ("supersedes", "Supersedes"),
                    ("contradicts", "Contradicts"),
                    ("depends_on", "Depends On"),
                    ("caused_by", "Caused By"),
                    ("part_of", "Part Of"),
                ],
                max_length=16,
            ),
        ),
        migrations.AddConstraint(
            model_name="memoryhistory",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "event__in",
                        [
                            "ADD",
                            "UPDATE",
                            "DELETE",
                            "RESTORE",
                            "STATE",
                            "CONFIRM",
                            "SUPERSEDE",
                            "REJECT",
                            "MERGE",
                            "SHARE",
                            "LINK",
                            "UNLINK",
                        ],
                    )
                ),
                name="history_event",
            ),
        ),
        migrations.AddConstraint(
            model_name="relation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "relation__in",
                        [
                            "derived_from",
                            "relates_to",
                            "supersedes",
                            "contradicts",
                            "depends_on",
                            "caused_by",
                            "part_of",
                        ],
                    )
                ),
                name="relation_kind",
            ),
        ),
    ]
