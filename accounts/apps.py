from django.apps import AppConfig

# Not its class: the one AppConfig that this module holds is this app's.
from django.contrib.admin import apps as admin


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"


class StaffAdminConfig(admin.AdminConfig):
    """`django.contrib.admin` with our site. Listed by this name among the installed apps."""

    default = False
    default_site = "accounts.site.StaffSite"
