"""Errors of the stack and of deploying. Every message names the next action."""


class StackError(Exception):
    """The servers cannot be started, or do not respond."""


class PortTaken(StackError):
    """Another program listens on the port of a server. The message names the setting that changes the port."""


class ProgramDied(StackError):
    """A server ended while it was starting. The message has the end of its log."""


class DeployFailed(StackError):
    """Prefect refused a deployment. The message has the end of its output."""


class BadAddress(StackError):
    """Notifications cannot be sent to the address or block in the environment. The message leaves out the address, a secret."""
