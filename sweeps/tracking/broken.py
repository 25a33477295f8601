"""Errors that are of the place where records are kept, and not of the run that was to be recorded."""

import errno

from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from sweeps.config.messages import reason

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def why_not_recorded(error: BaseException) -> str:
    """What keeps a run from being recorded: a full or read-only disk, a database, a server; or nothing."""
    is_disk = isinstance(error, OSError) and error.errno in _DISK
    if not is_disk and not isinstance(error, MlflowException | SQLAlchemyError | StorageInternalError):
        return ""
    return reason(error)
