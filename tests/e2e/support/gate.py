"""What code in a sandbox waits for until the test lets it go on: so nothing depends on who is quicker."""

import secrets

from support.files import Files


class Gate:
    """A file that is not there yet. A fork has its own, which is opened for itself."""

    def __init__(self) -> None:
        self._path = f"/root/gate-{secrets.token_hex(4)}"

    @property
    def is_shut(self) -> str:
        """A condition of Python, for code that has imported `os`."""
        return f"not os.path.exists({self._path!r})"

    @property
    def wait(self) -> str:
        """A line of Python, for code that has imported `os` and `time`."""
        return f"while {self.is_shut}: time.sleep(0.02)"

    def open(self, url: str, sandbox_id: str) -> None:
        """Works while a run is in progress."""
        Files(url, sandbox_id).write(self._path, b"")
