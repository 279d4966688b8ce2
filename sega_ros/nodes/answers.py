"""Service answers: an exception becomes an error code, and never leaves the callback."""

from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.impl.rcutils_logger import RcutilsLogger

from sega_ros.errors import ErrorCode, SegaError

Response = TypeVar('Response', bound=Any)  # generated classes have no common base
MAX_MESSAGE = 1024  # bytes of `string<=1024 message`


def shorten(text: str, limit: int = MAX_MESSAGE) -> str:
    """Cut `text` to `limit` bytes of UTF-8, with an ellipsis; what UTF-8 can't say becomes a question mark."""
    encoded = text.encode('utf-8', 'replace').replace(b'\0', b'?')
    cut = encoded if len(encoded) <= limit else encoded[:limit - 3] + '…'.encode()
    return cut.decode('utf-8', 'ignore')


def answer(response: Response, work: Callable[[Response], str | None], logger: RcutilsLogger) -> Response:
    """Run `work`, which fills the response and returns a summary; turn what it raises into an error code."""
    try:
        message = work(response) or ''
        response.success, response.error_code = True, int(ErrorCode.OK)
    except SegaError as error:
        message = str(error)
        response.success, response.error_code = False, int(error.code)
        logger.warning(f'refused ({error.code.name}): {message}')
    except Exception as error:
        message = f'internal error: {type(error).__name__}: {error}; please report it with the log of this node'
        response.success, response.error_code = False, int(ErrorCode.INTERNAL)
        logger.error(_trace(error))
    response.message = shorten(message)
    return response


def _trace(error: Exception) -> str:
    import traceback

    return ''.join(traceback.format_exception(error))
