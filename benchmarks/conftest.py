"""What the history of timings says about a machine: processor and versions, not its name."""

from . import record


def pytest_benchmark_update_machine_info(config, machine_info):
    del config
    machine_info.clear()
    machine_info.update({key: value for key, value in record.machine().items() if key != "date"})


def pytest_benchmark_update_commit_info(config, commit_info):
    del config
    for name in ("project", "branch", "author_time"):
        commit_info.pop(name, None)
