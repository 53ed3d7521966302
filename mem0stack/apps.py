from django.apps import AppConfig


class Mem0StackConfig(AppConfig):
    name = "mem0stack"
    label = "mem0stack"
    verbose_name = "mem0-stack"

    def ready(self) -> None:
        from mem0stack import checks  # noqa: PLC0415  registers with Django, which must be up

        checks.register_all()
