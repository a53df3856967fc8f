"""Errors that a user can act on: each message says what is wrong, where, and what to do.

The command line prints them without a traceback and exits with code 2.
"""

from __future__ import annotations


class AssayError(Exception):
    """Base of every error that Assay raises on purpose."""


class CardError(AssayError):
    """A card (`paper.yaml`) that cannot be read, or says something that no claim can say."""


class DataError(AssayError):
    """A data file that is missing, damaged, or not what its checksum promises."""


class JobError(AssayError):
    """A job that cannot be planned or run on this machine."""


class CodeError(JobError):
    """Code of a paper that is no Python, so that nothing of the paper can run."""


class RecordError(AssayError):
    """A measurement or a result file that cannot be stored or read."""
