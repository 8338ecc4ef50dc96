"""Errors whose message is meant for the user: one line that says what is wrong and what to do."""


class AopsamError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(AopsamError, ValueError):
    """An image, a point or a file given by the user cannot be used."""


class OptionError(AopsamError, ValueError):
    """An option is unknown, of the wrong type or outside its range."""


class MaskFormatError(AopsamError, ValueError):
    """An encoded mask contradicts itself: run lengths, box and image do not fit together."""


class BundleError(AopsamError):
    """A model bundle is missing, incomplete or altered."""


class EngineError(AopsamError):
    """The requested engine cannot be used on this machine."""


class CudaError(EngineError):
    """The GPU's driver is missing, or refused something."""


class FolderError(AopsamError):
    """Others could change what is in a folder, so nothing is loaded from it."""


class InferenceError(AopsamError):
    """A graph failed, or gave an output of the wrong shape or with values that are not finite."""


class DatasetError(AopsamError):
    """A data set or an annotation file cannot be read, or holds nothing to learn from."""


class WeightsError(AopsamError):
    """Published weights cannot be had, or a file is not the published one."""


class VerificationError(AopsamError):
    """An engine's numbers are too far from the reference's."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, for a message; without any, the error's type."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def quoted(text: str) -> str:
    """Return text of unknown origin for a message: in quotes, escaped, and cut if it is long."""
    return repr(text[:40])
