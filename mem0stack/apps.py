from django.apps import AppConfig


class Mem0StackConfig(AppConfig):
    name = "mem0stack"
    label = "mem0stack"
    verbose_name = "mem0-stack"

    def ready(self) -> None:
        # The Celery application must be the current one in every process that sends or takes a task.
        from mem0stack import celery, checks  # noqa: F401, PLC0415  they register with Django, which must be up

        checks.register_all()
