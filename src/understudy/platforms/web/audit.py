"""A log line for each change that the operator makes on the page."""

import structlog
from starlette.requests import Request

from understudy.platforms.web.login import peer_of

_log = structlog.get_logger()
OPERATOR_ACTION = "operator.action"


def audit(request: Request, action: str, target: str = "") -> None:
    """Log what was done, to what, and from which address. Never pass a value of a setting."""
    _log.info(OPERATOR_ACTION, action=action, target=target, peer=peer_of(request))
