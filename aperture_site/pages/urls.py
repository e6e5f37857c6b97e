"""The addresses of the pages. Those of signing in keep django-allauth's names, for its views refer to each other."""

from allauth.account import views as account
from allauth.mfa.base import views as second_factor
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from allauth.usersessions import views as sessions
from django.urls import path, re_path
from django.views.generic import RedirectView

from aperture_site.pages import api_keys, design, landing, overview, registration

urlpatterns = [
    path("", landing.page, name="landing"),
    path("dashboard", overview.page, name="dashboard"),
    path("dashboard/requests", overview.latest_rows, name="latest_requests"),
    path("welcome", registration.welcome, name="welcome"),
    path("welcome/key", registration.first_key, name="first_key"),
    path("settings", RedirectView.as_view(pattern_name="api_keys"), name="settings"),
    path("settings/api-keys", api_keys.page, name="api_keys"),
    path("settings/api-keys/new", api_keys.new, name="new_key"),
    path("settings/api-keys/<int:key_id>/reset", api_keys.reset, name="reset_key"),
    path("settings/api-keys/<int:key_id>/revoke", api_keys.revoke, name="revoke_key"),
    path("settings/api-keys/<int:key_id>/end-overlap", api_keys.end_overlap, name="end_overlap"),
    path("settings/api-keys/<int:key_id>/collect", api_keys.collect, name="collect_key"),
    path("design", design.page, name="design"),
    # Signing in
    path("register", registration.Register.as_view(), name="account_signup"),
    path("login", registration.SignIn.as_view(), name="account_login"),
    path("logout", account.logout, name="account_logout"),
    path("login/inactive", account.account_inactive, name="account_inactive"),
    path("login/again", account.reauthenticate, name="account_reauthenticate"),
    path("login/second-factor", second_factor.authenticate, name="mfa_authenticate"),
    path("login/again/second-factor", second_factor.reauthenticate, name="mfa_reauthenticate"),
    path("password/reset", account.password_reset, name="account_reset_password"),
    path("password/reset/sent", account.password_reset_done, name="account_reset_password_done"),
    path("password/reset/done", account.password_reset_from_key_done, name="account_reset_password_from_key_done"),
    re_path(
        r"^password/reset/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("email/sent", account.email_verification_sent, name="account_email_verification_sent"),
    re_path(r"^email/confirm/(?P<key>[-:\w]+)$", account.confirm_email, name="account_confirm_email"),
    # The settings of one's own account
    path("settings/email", account.email, name="account_email"),
    path("settings/password", account.password_change, name="account_change_password"),
    path("settings/password/set", account.password_set, name="account_set_password"),
    path("settings/security", second_factor.index, name="mfa_index"),
    path("settings/security/app", totp.activate_totp, name="mfa_activate_totp"),
    path("settings/security/app/remove", totp.deactivate_totp, name="mfa_deactivate_totp"),
    path("settings/security/codes", recovery_codes.view_recovery_codes, name="mfa_view_recovery_codes"),
    path("settings/security/codes/new", recovery_codes.generate_recovery_codes, name="mfa_generate_recovery_codes"),
    path(
        "settings/security/codes/download",
        recovery_codes.download_recovery_codes,
        name="mfa_download_recovery_codes",
    ),
    path("settings/sessions", sessions.list_usersessions, name="usersessions_list"),
]
