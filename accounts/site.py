"""The admin's site: the one place where staff pages are given their view of every owner's rows."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.template.response import SimpleTemplateResponse
from unfold.sites import UnfoldAdminSite

from accounts.actors import Actor, acting_as

View = Callable[..., HttpResponseBase]


class StaffSite(UnfoldAdminSite):  # type: ignore[misc]  # unfold has no types
    def admin_view(self, view: View, cacheable: bool = False) -> View:
        """Each page in one transaction of system scope, once its caller is known to be staff.

        To its last line: templates still read rows when the view has returned.
        """

        @wraps(view)
        def as_system(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            page = request.resolver_match.view_name if request.resolver_match else request.path
            with acting_as(Actor.system(f"staff page {page} for user {request.user.pk}")):
                response = view(request, *args, **kwargs)
                return response.render() if isinstance(response, SimpleTemplateResponse) else response

        checked: View = super().admin_view(as_system, cacheable)
        return checked
