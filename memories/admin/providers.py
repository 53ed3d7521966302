"""Provider settings in the admin: a key can be entered there and is never shown again."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminPasswordWidget

from memories import providers
from memories.models import EmbeddingSpace, ProviderSettings

_FIELDS = (
    *("purpose", "is_active", "kind", "base_url", "api_version", "model", "dimensions", "batch_size"),
    *("timeout_ms", "query_budget_ms", "requests_a_minute"),
)


class ProviderSettingsForm(forms.ModelForm):  # type: ignore[type-arg]
    new_key = forms.CharField(
        label="key",
        required=False,
        strip=True,
        max_length=500,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Empty leaves it as it is. env:NAME_API_KEY names a variable of the service's environment.",
    )

    class Meta:
        model = ProviderSettings
        fields = _FIELDS

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.errors:
            return cleaned
        if cleaned.get("new_key"):
            self.instance.key = providers.sealed(cleaned["new_key"])
        elif self.instance.key and {"kind", "base_url"} & set(self.changed_data):
            # Or whoever may edit the row could have the key sent to an address of his own.
            raise forms.ValidationError({"new_key": "Enter the key again: it goes to another address now."})
        for name in _FIELDS:
            setattr(self.instance, name, cleaned[name])
        if trouble := providers.from_row(self.instance).trouble:
            raise forms.ValidationError(trouble)
        return cleaned


@admin.register(ProviderSettings)
class ProviderSettingsAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    form = ProviderSettingsForm
    list_display = ("purpose", "is_active", "kind", "model", "dimensions", "has_key", "updated_at")
    fields = (*_FIELDS[:5], "new_key", *_FIELDS[5:])

    @admin.display(boolean=True, description="key")
    def has_key(self, row: ProviderSettings) -> bool:
        return bool(row.key)

    def save_model(self, request: HttpRequest, obj: ProviderSettings, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        providers.forget()


@admin.register(EmbeddingSpace)
class EmbeddingSpaceAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """To be looked at: `manage.py reembed` makes and switches them."""

    list_display = ("model", "kind", "dimensions", "state", "created_at", "activated_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: EmbeddingSpace | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: EmbeddingSpace | None = None) -> bool:
        return False
