"""What can go wrong around the stack. Every message says what to do next."""


class StackError(Exception):
    """The servers cannot be brought up, or do not answer."""


class PortTaken(StackError):
    """Another program listens where one of our servers should. The message names the setting that moves it."""


class ProgramDied(StackError):
    """A server ended while it was being started. The message holds the end of its log."""


class DeployFailed(StackError):
    """Prefect refused a deployment. The message holds the end of its output."""


class BadAddress(StackError):
    """Notifications cannot be sent to what the environment names. The address itself is not repeated, since it may hold a secret."""
