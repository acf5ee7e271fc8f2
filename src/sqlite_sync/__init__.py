"""Sync for existing SQLite applications, through files."""

from sqlite_sync.app_triggers import AppTrigger
from sqlite_sync.clock import VectorClock
from sqlite_sync.codec import RawText, Value
from sqlite_sync.conflicts import Conflict, Images
from sqlite_sync.doctor import diagnose
from sqlite_sync.engine import SyncEngine
from sqlite_sync.enroller import Enrollment
from sqlite_sync.errors import (
    BundleError,
    ConflictError,
    ConstraintError,
    DatabaseError,
    DeviceError,
    ExtraError,
    GapError,
    SchemaError,
    StateError,
    SyncError,
    TableError,
)
from sqlite_sync.findings import Diagnosis, Finding, TableDiagnosis
from sqlite_sync.folder import FileNote, FolderResult
from sqlite_sync.importer import ImportResult, Progress, RowChange, RowName, TableChange
from sqlite_sync.inspection import BundleInfo, TableInfo, inspect_bundle
from sqlite_sync.operation import Operation
from sqlite_sync.status import PeerStatus, Status, TableStatus

__version__ = "0.1.0"

__all__ = [
    "AppTrigger",
    "BundleError",
    "BundleInfo",
    "Conflict",
    "ConflictError",
    "ConstraintError",
    "DatabaseError",
    "DeviceError",
    "Diagnosis",
    "Enrollment",
    "ExtraError",
    "FileNote",
    "Finding",
    "FolderResult",
    "GapError",
    "Images",
    "ImportResult",
    "Operation",
    "PeerStatus",
    "Progress",
    "RawText",
    "RowChange",
    "RowName",
    "SchemaError",
    "StateError",
    "Status",
    "SyncEngine",
    "SyncError",
    "TableChange",
    "TableDiagnosis",
    "TableError",
    "TableInfo",
    "TableStatus",
    "Value",
    "VectorClock",
    "__version__",
    "diagnose",
    "inspect_bundle",
]
