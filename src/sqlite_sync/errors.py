"""Every error of this package.

    SyncError
    ├── StateError        the engine cannot do this now: not initialized, closed, a transaction is open
    ├── DatabaseError     the user's file: not a database, locked, read-only, disk full
    ├── TableError        this table cannot be captured
    ├── SchemaError       our tables or triggers are missing, changed or of another version
    ├── BundleError       the peer's file: damaged, foreign, of a newer format
    │   └── GapError      the bundle starts after what this device holds
    ├── ConstraintError   a constraint does not let a resolution, or what it brings along, stand
    ├── ConflictError     no such open conflict, or an impossible resolution
    ├── DeviceError       two databases go on under one device id, or a wrong peer id
    └── ExtraError        an optional dependency is not installed

A message says what happened, to which file, table or row, and what to do. Whatever is raised, nothing is left half
done.
"""


class SyncError(Exception):
    """The root of all errors of this package."""


class StateError(SyncError):
    """The engine cannot do this now."""


class DatabaseError(SyncError):
    """The user's file cannot be read or written."""


class TableError(SyncError):
    """A table cannot be captured."""


class SchemaError(SyncError):
    """Our tables or triggers in the file are not as they must be."""


class BundleError(SyncError):
    """A file is no bundle that can be imported."""


class GapError(BundleError):
    """The bundle starts after what this device holds."""


class ConstraintError(SyncError):
    """A constraint does not let a resolution, or what it brings along, stand."""


class ConflictError(SyncError):
    """No such open conflict, or an impossible resolution."""


class DeviceError(SyncError):
    """Two databases go on under one device id, or a device id is wrong."""


class ExtraError(SyncError):
    """An optional dependency is not installed."""
