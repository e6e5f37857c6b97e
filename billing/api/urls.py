"""The addresses of the money API, below `/api/billing/`."""

from django.urls import path, re_path

from billing.api.balance import Balance, Plans, Settings
from billing.api.card import Portal, Subscribe, TopUp
from billing.api.receipts import Receipt, Receipts
from billing.api.redemption import Redemption
from billing.api.transfers import Ledger, LedgerExport
from billing.api.usage_days import Usage, UsageExport
from billing.api.usage_requests import Requests, RequestsExport
from billing.api.view import Nothing

urlpatterns = [
    path("balance", Balance.as_view()),
    path("settings", Settings.as_view()),
    path("ledger", Ledger.as_view()),
    path("ledger.csv", LedgerExport.as_view()),
    path("usage", Usage.as_view()),
    path("usage.csv", UsageExport.as_view()),
    path("usage/requests", Requests.as_view()),
    path("usage/requests.csv", RequestsExport.as_view()),
    path("redeem", Redemption.as_view()),
    path("receipts", Receipts.as_view()),
    path("receipts/<int:receipt_id>", Receipt.as_view()),
    path("top-up", TopUp.as_view()),
    path("subscribe", Subscribe.as_view()),
    path("portal", Portal.as_view()),
    path("plans", Plans.as_view()),
    re_path("", Nothing.as_view()),
]
