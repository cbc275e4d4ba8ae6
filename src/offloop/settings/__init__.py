"""Settings of pools and worker groups."""

from .checks import (
    check_labels,
    check_memory_limit,
    check_nbytes,
    check_order,
    check_range,
    check_retries,
    check_seconds,
    check_workers,
)
from .environment import SettingRow, setting_rows, settings_of_environment
from .group_settings import WorkerGroup
from .memory import default_memory_limit
from .pool_settings import PoolSettings, check_room

__all__ = [
    "PoolSettings",
    "SettingRow",
    "WorkerGroup",
    "check_labels",
    "check_memory_limit",
    "check_nbytes",
    "check_order",
    "check_range",
    "check_retries",
    "check_room",
    "check_seconds",
    "check_workers",
    "default_memory_limit",
    "setting_rows",
    "settings_of_environment",
]
