import django.db.models.expressions
from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # Outside a transaction: the table may be large, and its writers go on meanwhile.
    atomic = False

    dependencies = [
        ("memories", "0010_links"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="memory",
            index=models.Index(
                models.F("owner"),
                models.F("namespace"),
                models.OrderBy(
                    django.db.models.expressions.CombinedExpression(
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                django.db.models.expressions.CombinedExpression(
                                    models.Case(
                                        models.When(pinned_at__isnull=False, then=models.Value(10.0)),
                                        default=models.Value(0.0),
                                    ),
                                    "+",
                                    models.Case(
                                        models.When(kind="preference", then=models.Value(1.0)),
                                        models.When(kind="decision", then=models.Value(0.9)),
                                        models.When(kind="procedure", then=models.Value(0.8)),
                                        models.When(kind="error", then=models.Value(0.7)),
                                        models.When(kind="reference", then=models.Value(0.6)),
                                        models.When(kind="fact", then=models.Value(0.5)),
                                        default=models.Value(0.0),
                                    ),
                                ),
                                "+",
                                django.db.models.expressions.CombinedExpression(
                                    models.F("quality"), "*", models.Value(0.5)
                                ),
                            ),
                            "+",
                            django.db.models.expressions.CombinedExpression(
                                models.F("importance"), "*", models.Value(0.2)
                            ),
                        ),
                        "+",
                        django.db.models.expressions.CombinedExpression(models.F("confidence"), "*", models.Value(0.2)),
                    ),
                    descending=True,
                ),
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(
                    ("standing", "current"), ("state", "active"), models.Q(("kind", "message"), _negated=True)
                ),
                name="memory_by_worth",
            ),
        ),
        AddIndexConcurrently(
            model_name="memory",
            index=models.Index(
                condition=models.Q(("pinned_at__isnull", False)), fields=["owner", "-pinned_at"], name="memory_pinned"
            ),
        ),
    ]
