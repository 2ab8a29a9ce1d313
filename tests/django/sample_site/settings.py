"""The settings of the project; SAMPLE_… variables name the database for processes that tests start."""

import os

SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["*"]
DEBUG = False
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
ROOT_URLCONF = "sample_site.urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING_CONFIG = None  # pytest's own
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "procrastinate.contrib.django",
    "sample_site.shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
_POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ.get("SAMPLE_NAME", "no_test_asked_for_a_database"),
    "HOST": os.environ.get("SAMPLE_HOST", ""),
    "PORT": os.environ.get("SAMPLE_PORT", ""),
    "USER": os.environ.get("SAMPLE_USER", ""),
    "PASSWORD": os.environ.get("SAMPLE_PASSWORD", ""),
}
DATABASES = {
    "default": dict(_POSTGRES),
    "other": dict(_POSTGRES),
    "lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
PROCRASTINATE_ON_APP_READY = "sample_site.ready.remember"
PROCRASTINATE_IMPORT_PATHS = ["sample_site.more_tasks"]
TASKS = {
    "default": {
        "BACKEND": "procrastinate.contrib.django.tasks.ProcrastinateBackend",
        "QUEUES": ["default", "slow"],
    }
}
