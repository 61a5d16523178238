"""Devices: how many cores this process may use, counted in one place for every command."""


def share_of_cores(num_processes: int = 1) -> int:
    """Cores for each of `num_processes` processes.

    Shared out are those that this machine lets us use: affinity and a container's quota count, and the environment
    variable LOKY_MAX_CPU_COUNT where it says less.
    """
    import joblib

    return max(1, joblib.cpu_count() // num_processes)
