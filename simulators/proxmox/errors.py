"""The errors of the simulated API, in Proxmox VE's manners.

Owns status codes, wording and the rule that only 400 carries an `errors` object. Wording is taken from the sources of
pve-container, qemu-server, pve-storage, pve-access-control and pve-http-server (versions 9.x).
"""

from collections.abc import Mapping


class ApiError(Exception):
    """One refused call: an HTTP status, a reason phrase and, for 400, which parameter was wrong.

    With `bare` the body is empty: so answers the HTTP server itself (401, 501, 595), before any API method ran.
    """

    def __init__(
        self, status: int, reason: str, *, errors: Mapping[str, str] | None = None, bare: bool = False
    ) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.errors = dict(errors or {})
        self.bare = bare


class ConfigLocked(Exception):  # noqa: N818 - not an error yet: the caller waits for the lock first
    """Another task holds the guest's configuration file; Proxmox VE waits ten seconds before it gives up."""

    def __init__(self, lock_path: str) -> None:
        super().__init__(lock_path)
        self.lock_path = lock_path

    def timed_out(self) -> ApiError:
        """Return the error after the wait, as `PVE::Tools::lock_file_full` words it."""
        return ApiError(500, lock_timeout(self.lock_path))


class TaskFailed(Exception):  # noqa: N818 - the task's own word for its end
    """The work of a task failed; the text becomes its `exitstatus`."""


def lock_timeout(lock_path: str) -> str:
    """Word the failure to lock a guest's configuration."""
    return f"can't lock file '{lock_path}' - got timeout"


def bad_parameter(**errors: str) -> ApiError:
    """Return 400 with one text per wrong parameter (`PVE::Exception::raise_param_exc`)."""
    return bad_parameters(errors)


def bad_parameters(errors: Mapping[str, str]) -> ApiError:
    """Return 400 for parameters whose names are not Python identifiers."""
    return ApiError(400, "Parameter verification failed.", errors=errors)


def forbidden(what: str) -> ApiError:
    """Return 403 naming the path and the privilege that is missing (`PVE::RPCEnvironment::check`)."""
    return ApiError(403, f"Permission check failed ({what})")


def unauthorized(reason: str) -> ApiError:
    """Return 401; its body is empty."""
    return ApiError(401, reason, bare=True)


def failed(reason: str) -> ApiError:
    """Return 500 with the text that the Perl code died with."""
    return ApiError(500, reason)
