"""JupyterLab whose people come through the gateway: it believes one header, and has no login of its own."""

from jupyter_server.auth import IdentityProvider, User


class FromTheGateway(IdentityProvider):
    auth_enabled = True

    def get_user(self, handler):
        name = handler.request.headers.get("Remote-User")
        return User(username=name, name=name) if name else None


c = get_config()  # noqa: F821
c.ServerApp.identity_provider_class = FromTheGateway
# Its pages would send a token of its own with every fetch, and who sends a credential is asked for no other.
c.IdentityProvider.token = ""
c.ServerApp.allow_remote_access = True
c.ServerApp.open_browser = False
c.ServerApp.allow_root = True
c.ServerApp.terminals_enabled = False
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
