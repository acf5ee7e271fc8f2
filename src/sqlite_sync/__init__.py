"""Sync for existing SQLite applications, through files."""

from sqlite_sync.app_triggers import AppTrigger
from sqlite_sync.clock import VectorClock
from sqlite_sync.codec import RawText, Value
from sqlite_sync.conflicts import Conflict, Images
from sqlite_sync.decision import (
    Copy,
    Decision,
    Deferred,
    Delete,
    Dispute,
    Leave,
    Resolutions,
    Resolved,
    Strategy,
    Take,
    TakeBoth,
    Version,
    Write,
)
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
from sqlite_sync.explanation import Event, Explanation
from sqlite_sync.findings import Diagnosis, Finding, TableDiagnosis
from sqlite_sync.folder import FileNote, FolderResult
from sqlite_sync.importer import ImportResult, Progress, RowChange, RowName, TableChange
from sqlite_sync.inspection import BundleInfo, TableInfo, inspect_bundle
from sqlite_sync.operation import Operation
from sqlite_sync.pairing import Adoption
from sqlite_sync.status import ConflictCount, PeerStatus, Status, TableStatus
from sqlite_sync.strategies import (
    Callback,
    Defer,
    HigherVersionWins,
    KeepBoth,
    LastWriteWins,
    MergeFields,
    PreferLocal,
    PreferRemote,
)

__version__ = "0.1.0"

__all__ = [
    "Adoption",
    "AppTrigger",
    "BundleError",
    "BundleInfo",
    "Callback",
    "Conflict",
    "ConflictCount",
    "ConflictError",
    "ConstraintError",
    "Copy",
    "DatabaseError",
    "Decision",
    "Defer",
    "Deferred",
    "Delete",
    "DeviceError",
    "Diagnosis",
    "Dispute",
    "Enrollment",
    "Event",
    "Explanation",
    "ExtraError",
    "FileNote",
    "Finding",
    "FolderResult",
    "GapError",
    "HigherVersionWins",
    "Images",
    "ImportResult",
    "KeepBoth",
    "LastWriteWins",
    "Leave",
    "MergeFields",
    "Operation",
    "PeerStatus",
    "PreferLocal",
    "PreferRemote",
    "Progress",
    "RawText",
    "Resolutions",
    "Resolved",
    "RowChange",
    "RowName",
    "SchemaError",
    "StateError",
    "Status",
    "Strategy",
    "SyncEngine",
    "SyncError",
    "TableChange",
    "TableDiagnosis",
    "TableError",
    "TableInfo",
    "TableStatus",
    "Take",
    "TakeBoth",
    "Value",
    "VectorClock",
    "Version",
    "Write",
    "__version__",
    "diagnose",
    "inspect_bundle",
]
