"""What this process may use of the machine: CPUs, memory, shared memory."""

from .kernel_layers import missing_kernel_layers
from .limits import Amount, address_limit, available_cpus, available_memory, free_shared_memory, memory_pressure

__all__ = [
    "Amount",
    "address_limit",
    "available_cpus",
    "available_memory",
    "free_shared_memory",
    "memory_pressure",
    "missing_kernel_layers",
]
