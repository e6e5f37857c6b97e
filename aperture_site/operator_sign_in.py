"""The admin's own sign-in. It asks for no second factor, and so it lets nobody in who has one: they sign in at /login.

A session that was begun there is good for the admin too.
"""

from typing import Any

from allauth.mfa.models import Authenticator
from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm


class OperatorSignIn(AuthenticationForm):
    """E-mail and password."""

    def confirm_login_allowed(self, user: Any) -> None:
        """Raise ValidationError for those who sign in at /login."""
        super().confirm_login_allowed(user)
        if Authenticator.objects.filter(user=user).exists():
            raise ValidationError("You have a second factor: sign in at /login, then open the admin.")
