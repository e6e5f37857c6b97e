"""Every setting, in one place; each value comes from the environment through `env`.

Given no DATABASE_URL and REDIS_URL, the addresses are those of the engines that `aperture_site.engines` runs under
APERTURE_DATA_DIR. Secrets come from the environment or are made once in that folder.
"""

import logging
from pathlib import Path
from urllib.parse import urlsplit

from aperture_site import addresses, env, secret_files
from catalog import vendors

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.folder("APERTURE_DATA_DIR", BASE_DIR / "var")

# --- Secrets, each different -----------------------------------------------------------------------------------------
SECRET_KEY = secret_files.value("APERTURE_SECRET_KEY", DATA_DIR)
# The newest first: it signs new keys, all of them recognise old ones.
KEY_PEPPERS = secret_files.values("APERTURE_KEY_PEPPER", DATA_DIR)
# The newest first: it encrypts, all of them decrypt.
ENCRYPTION_KEYS = secret_files.values("APERTURE_ENCRYPTION_KEY", DATA_DIR)

# What the built-in demo upstream asks of its callers; several web nodes need the same.
DEMO_SECRET = secret_files.value("APERTURE_DEMO_SECRET", DATA_DIR)
# Each vendor's own keys by the name of the credential that they become; `catalog.environment` makes providers of them.
VENDOR_KEYS = {vendor.slug: env.numbered(vendor.variable) for vendor in vendors.VENDORS}

# --- The installation -------------------------------------------------------------------------------------------------
DEBUG = env.flag("APERTURE_DEBUG")
MODE = env.choice("APERTURE_MODE", "team", ["team", "resale"])
REGION = env.header("APERTURE_REGION", "local")
HOST = env.text("APERTURE_HOST", "127.0.0.1")
PORT = env.integer("APERTURE_PORT", 8000, at_least=0, at_most=65_535)
# Both or neither; `serve` puts what its options name here.
TLS_CERT = env.text("APERTURE_TLS_CERT")
TLS_KEY = env.text("APERTURE_TLS_KEY")
PUBLIC_URL = env.text("APERTURE_PUBLIC_URL", addresses.local_url(HOST, PORT, secure=bool(TLS_CERT))).rstrip("/")
TRUSTED_PROXIES = env.networks("APERTURE_TRUSTED_PROXIES")
DRAIN_S = env.seconds("APERTURE_DRAIN_SECONDS", 30)
KEY_REVEAL = env.flag("APERTURE_KEY_REVEAL")
DEMO = env.flag("APERTURE_DEMO", default=True)
# Where an operator's provider may live: anywhere (allow), on no private network (forbid), or in listed networks.
PRIVATE_UPSTREAMS = env.upstream_networks("APERTURE_PRIVATE_UPSTREAMS")

# --- Money ------------------------------------------------------------------------------------------------------------
# The most that one action of an operator in the admin may move; 0 switches such actions off.
ADJUSTMENT_MAX_DOLLARS = env.integer("APERTURE_ADJUSTMENT_MAX_DOLLARS", 1000, at_most=1_000_000_000)
# How many full months of usage rows are kept; 0 is all of them.
USAGE_MONTHS = env.integer("APERTURE_USAGE_MONTHS", 0, at_most=1200)
USAGE_ARCHIVE_DIR = env.text("APERTURE_USAGE_ARCHIVE_DIR")

# --- Card payment: off without both secrets ---------------------------------------------------------------------------
STRIPE_SECRET_KEY = env.text("APERTURE_STRIPE_SECRET_KEY")
# Several while one is replaced by another. An empty one is never among them: anybody could sign with it.
STRIPE_WEBHOOK_SECRETS = env.words("APERTURE_STRIPE_WEBHOOK_SECRET")
STRIPE_API_BASE = env.secure_url("APERTURE_STRIPE_API_BASE", "https://api.stripe.com")
STRIPE_TAX = env.flag("APERTURE_STRIPE_TAX")
TOP_UP_MIN_DOLLARS = env.integer("APERTURE_TOP_UP_MIN", 5, at_least=1, at_most=999_999)
TOP_UP_MAX_DOLLARS = env.integer(
    "APERTURE_TOP_UP_MAX", max(1000, TOP_UP_MIN_DOLLARS), at_least=TOP_UP_MIN_DOLLARS, at_most=999_999
)

# --- Bounds of a request ----------------------------------------------------------------------------------------------
MAX_BODY_BYTES = env.integer("APERTURE_MAX_BODY", 32 * 1024 * 1024, at_least=1024)
MAX_HEADER_BYTES = 32 * 1024
RECEIVE_TIMEOUT_S = env.seconds("APERTURE_RECEIVE_TIMEOUT_SECONDS", 60, at_least=0.1)
# How long a client may leave a waiting answer unread, byte for byte, before its connection is closed.
WRITE_TIMEOUT_S = env.seconds("APERTURE_WRITE_TIMEOUT_SECONDS", 120, at_least=0.1)
CONNECT_TIMEOUT_S = env.seconds("APERTURE_CONNECT_TIMEOUT_SECONDS", 10, at_least=0.1)
FIRST_BYTE_TIMEOUT_S = env.seconds("APERTURE_FIRST_BYTE_TIMEOUT_SECONDS", 120, at_least=0.1)
IDLE_TIMEOUT_S = env.seconds("APERTURE_IDLE_TIMEOUT_SECONDS", 120, at_least=0.1)
KEEP_ALIVE_S = env.seconds("APERTURE_KEEP_ALIVE_SECONDS", 15, at_least=0.1)
# How long an answer is kept whose caller asked for it; 0 keeps none.
STORED_RESPONSE_DAYS = env.integer("APERTURE_STORED_RESPONSE_DAYS", 30, at_least=0)
MAX_ANSWER_BYTES = env.integer("APERTURE_MAX_ANSWER", 64 * 1024 * 1024, at_least=1024)
HOLD_TIMEOUT_S = env.seconds("APERTURE_HOLD_TIMEOUT_SECONDS", 3, at_least=0.1)
HOLD_LEASE_S = env.seconds("APERTURE_HOLD_LEASE_SECONDS", 60, at_least=0.5)
SETTLE_TIMEOUT_S = env.seconds("APERTURE_SETTLE_TIMEOUT_SECONDS", 10, at_least=0.1)

# --- WebSockets -------------------------------------------------------------------------------------------------------
SOCKET_FRAME_BYTES = env.integer("APERTURE_SOCKET_FRAME", 16 * 1024 * 1024, at_least=1024)
SOCKET_IDLE_S = env.seconds("APERTURE_SOCKET_IDLE_SECONDS", 900, at_least=0.1)
SOCKET_LENGTH_S = env.seconds("APERTURE_SOCKET_SECONDS", 3600, at_least=0.1, at_most=604_800)
SOCKET_PING_S = env.seconds("APERTURE_SOCKET_PING_SECONDS", 20, at_least=0.1)
# How many a key may have open at once, over all processes; 0 is any number.
SOCKETS_PER_KEY = env.integer("APERTURE_SOCKETS_PER_KEY", 100, at_most=1_000_000)

# --- Limits -----------------------------------------------------------------------------------------------------------
# How much more an address may use of free models than one user without credit; 0 leaves addresses unlimited.
SANDBOX_ADDRESS_FACTOR = env.integer("APERTURE_SANDBOX_ADDRESS_FACTOR", 5, at_most=1_000_000)
# How many keys that are not good an address may send in a minute; 0 is any number.
FAILED_KEYS_PER_MINUTE = env.integer("APERTURE_FAILED_KEYS_PER_MINUTE", 60, at_most=1_000_000)

# --- Price data -------------------------------------------------------------------------------------------------------
# Where newer price data than the installed package's is, which names the same address itself; empty means nowhere.
PRICE_DATA_URL = (
    ""
    if env.text("APERTURE_PRICE_DATA_URL").lower() == "off"
    else env.secure_url(
        "APERTURE_PRICE_DATA_URL",
        "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json",
    )
)

# --- Leaked keys ------------------------------------------------------------------------------------------------------
# Where the public keys are that GitHub signs its alerts with.
LEAK_KEYS_URL = env.secure_url("APERTURE_LEAK_KEYS_URL", "https://api.github.com/meta/public_keys/secret_scanning")
# What TruffleHog's verifier shows; several while one is replaced by another, and none switches it off.
LEAK_VERIFIER_TOKENS = env.words("APERTURE_LEAK_VERIFIER_TOKEN")

# --- Engines ----------------------------------------------------------------------------------------------------------
DATABASE_URL = env.text("DATABASE_URL") or addresses.embedded_database(DATA_DIR)
REDIS_URL = env.text("REDIS_URL") or addresses.embedded_redis(DATA_DIR)
EMBEDDED_DATABASE = not env.text("DATABASE_URL")
EMBEDDED_REDIS = not env.text("REDIS_URL")
DATABASES = {"default": addresses.django_database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CELERY_BROKER_URL = addresses.celery_broker(REDIS_URL)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# For ever: a worker that gave up would be missing when Redis comes back.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A job that runs while Redis goes away needs no Redis to end well.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# A logger that is set up after Celery put itself in the place of stderr would write nowhere.
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "aperture_site.beat:Beat"
# Of processes: only they can be ended when a job's time is over.
CELERY_WORKER_POOL = "prefork"
CELERY_WORKER_CONCURRENCY = env.integer("APERTURE_JOB_PROCESSES", 3, at_least=1, at_most=64)
# Who works on a job keeps no other from a process that is free.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 5, "socket_timeout": 30}
# How long a job's history is kept.
JOB_HISTORY_DAYS = env.integer("APERTURE_JOB_HISTORY_DAYS", 30, at_least=1, at_most=3650)

CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}},
}
CACHES = {"default": {"BACKEND": "aperture_site.cache.RedisOrMemory", "LOCATION": REDIS_URL}}

# --- Django -----------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "channels",
    "django_celery_beat",
    "accounts",
    "catalog",
    "billing",
    "gateway",
    # Before allauth: its pages take our templates.
    "aperture_site",
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "aperture_site.static_files.StaticFiles",
    "aperture_site.content_security.ContentSecurity",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]
ROOT_URLCONF = "aperture_site.urls"
ASGI_APPLICATION = "aperture_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Signing in (the admin keeps its own page) ------------------------------------------------------------------------
REGISTRATION = env.choice(
    "APERTURE_REGISTRATION", "open" if MODE == "resale" else "closed", ["closed", "open", "domains"]
)
REGISTRATION_DOMAINS = [domain.lower().removeprefix("@") for domain in env.words("APERTURE_REGISTRATION_DOMAINS")]
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "/login", "/dashboard", "/"
ACCOUNT_ADAPTER = "aperture_site.pages.sign_in.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_FORMS = {"signup": "aperture_site.pages.sign_in.RegistrationForm"}
ACCOUNT_SIGNUP_REDIRECT_URL = "/welcome"
# Who registers by domain must own the address: the domain is all that lets one in.
ACCOUNT_EMAIL_VERIFICATION = "mandatory" if REGISTRATION == "domains" else "optional"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_DEFAULT_HTTP_PROTOCOL = urlsplit(PUBLIC_URL).scheme
MFA_ADAPTER = "aperture_site.pages.sign_in.SecondFactorAdapter"
MFA_TOTP_ISSUER = "Aperture"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
FORMAT_MODULE_PATH = "aperture_site.formats"

# Hosts and origins come from the public address alone; the local names are for the machine itself.
ALLOWED_HOSTS = sorted({urlsplit(PUBLIC_URL).hostname or "localhost", "localhost", "127.0.0.1", "[::1]"})
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_HTTPONLY = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# A cookie of the reader's browser, never a row: a message holds the clear text of the key that was just made.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

# --- The money API: JSON in and out, and only what `billing.api` says -------------------------------------------------
# REST framework is not among the apps: nothing that it has for templates is used, and each web process would load it.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_PARSER_CLASSES": ["billing.api.bodies.SmallJSON"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "billing.api.bodies.AlwaysJSON",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "billing.api.errors.answer",
    "URL_FORMAT_OVERRIDE": None,
}

# --- Mail -------------------------------------------------------------------------------------------------------------
EMAIL_HOST = env.text("APERTURE_MAIL_HOST")
EMAIL_PORT = env.integer("APERTURE_MAIL_PORT", 587, at_least=1, at_most=65_535)
EMAIL_HOST_USER = env.text("APERTURE_MAIL_USER")
EMAIL_HOST_PASSWORD = env.text("APERTURE_MAIL_PASSWORD")
EMAIL_USE_TLS = env.flag("APERTURE_MAIL_TLS", default=True)
EMAIL_TIMEOUT = 10
# Who is told of upstreams that fail; empty means those who may use the admin.
ALERT_EMAILS = env.words("APERTURE_ALERT_EMAILS")
DEFAULT_FROM_EMAIL = env.text("APERTURE_MAIL_FROM", "aperture@localhost")
# Without a mail server nobody could prove an address, and nobody could have a second factor.
MFA_ALLOW_UNVERIFIED_EMAIL = not EMAIL_HOST
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'console'}.EmailBackend"

# --- Logging ----------------------------------------------------------------------------------------------------------
LOG_LEVEL = env.choice("APERTURE_LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR"])


FREQUENT = ("billing.payments.sweep", "aperture_site.tasks.note_worker", "gateway.tasks.check_upstreams")


def is_no_sweep(record: logging.LogRecord) -> bool:
    """Say whether a line is worth its place: all are, but Celery's about a frequent job that went well."""
    return record.levelno > logging.INFO or not any(name in record.getMessage() for name in FREQUENT)


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "class": "aperture_site.log_lines.Masked",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        }
    },
    # The sweep of payments and the look for checks that are due come every few seconds, and tell of what they do by
    # lines of their own; a heartbeat has nothing to tell.
    "filters": {"no_sweeps": {"()": "django.utils.log.CallbackFilter", "callback": is_no_sweep}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["no_sweeps"]}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        **{name: {"level": "WARNING"} for name in ("httpx", "asyncio", "stripe")},
        # It would tell of each second that Redis is away, with a traceback; the live pages say so once.
        "channels_redis.pubsub": {"level": "CRITICAL"},
        # Whoever scans addresses sends hosts that are none; each would leave a traceback.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    },
}

UNFOLD = {
    "SITE_TITLE": "Aperture",
    "SITE_HEADER": "Aperture",
    "SITE_SUBHEADER": "AI gateway and billing",
    "SITE_SYMBOL": "hub",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"/{STATIC_URL}aperture/favicon.svg"}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {"show_search": False, "navigation": "aperture_site.sidebar.navigation"},
}
