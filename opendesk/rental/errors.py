"""What the rental API refuses, and why."""

from opendesk.errors import NotFound, OpenDeskError


class EmailTaken(OpenDeskError):
    """There is a user with this e-mail address."""

    status, code = 409, "EMAIL_TAKEN"


class UsernameTaken(OpenDeskError):
    """There is a user with this name."""

    status, code = 409, "USERNAME_TAKEN"


class InvalidCredentials(OpenDeskError):
    """The e-mail address or the password is wrong."""

    status, code = 401, "INVALID_CREDENTIALS"


class UserNotFound(NotFound):
    """There is no such user."""

    code = "USER_NOT_FOUND"


class HostNotFound(NotFound):
    """There is no such host."""

    code = "HOST_NOT_FOUND"


class PcNotFound(NotFound):
    """There is no such PC."""

    code = "PC_NOT_FOUND"


class SessionNotFound(NotFound):
    """There is no such session."""

    code = "SESSION_NOT_FOUND"


class PcBusy(OpenDeskError):
    """The PC is taken by another session."""

    status, code = 409, "PC_BUSY"


class PcOffline(OpenDeskError):
    """The PC is offline."""

    status, code = 409, "PC_OFFLINE"


class TooManyPcs(OpenDeskError):
    """The host offers as many PCs as one may."""

    status, code = 409, "TOO_MANY_PCS"


class LocalPcIdTaken(OpenDeskError):
    """Another PC of this host has this localPcId."""

    status, code = 409, "LOCAL_PC_ID_TAKEN"


class SessionExists(OpenDeskError):
    """The client has a live session already."""

    status, code = 409, "SESSION_EXISTS"


class OwnPc(OpenDeskError):
    """A host can't rent a PC of their own."""

    status, code = 403, "OWN_PC"


class InvalidStatus(OpenDeskError):
    """The session's status doesn't allow this."""

    status, code = 409, "INVALID_STATUS"


class InsufficientFunds(OpenDeskError):
    """The wallet has less than this."""

    status, code = 402, "INSUFFICIENT_FUNDS"


class RefundTooLarge(OpenDeskError):
    """No more can be refunded than is left of what was retained."""

    status, code = 409, "REFUND_TOO_LARGE"
