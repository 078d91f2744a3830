"""A site whose people are Django's: accounts are made by RemoteUserMiddleware, as its documentation has it."""

import sys
from wsgiref.simple_server import make_server

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.RemoteUserBackend"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[2] + "/site.db"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "__main__.FromTheGateway",
    ],
    ROOT_URLCONF="__main__",
    SECRET_KEY="a site that lives for one test",
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.middleware import RemoteUserMiddleware  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import re_path  # noqa: E402


class FromTheGateway(RemoteUserMiddleware):
    header = "HTTP_REMOTE_USER"


def who(request):
    return JsonResponse({"user": request.user.username, "known": request.user.is_authenticated})


urlpatterns = [re_path("", who)]

call_command("migrate", verbosity=0)
server = make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application())
print("ready", flush=True)
server.serve_forever()
