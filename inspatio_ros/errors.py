# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The errors that a user can mend: one sentence each, without a traceback at the command line."""


class InspatioError(Exception):
    """Something that the user can mend; the message says what is wrong, where, and what to do."""

    #: What a command exits with when this error ends it.
    exit_code = 1


class RecordingError(InspatioError):
    """A recording cannot be opened or holds something that is not usable."""


class TrajectoryError(InspatioError):
    """A trajectory file cannot be read; the message names the file and the line."""


class WeightsError(InspatioError):
    """Weights are missing, truncated, or do not fit the configuration."""


class ConfigurationError(InspatioError):
    """A parameter or an option has a value that cannot work; the message lists what can."""
