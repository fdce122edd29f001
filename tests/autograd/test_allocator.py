import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from landscape.autograd.allocator import keep_freed_memory
{first}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        held = [torch.ones(200_000) for _ in range(10)]  # 800 kB each
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(first):
    code = FAULTS.format(first=first)
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_used_again_without_page_faults():
    # 20 times 2,000 pages are used; without the call up to 35,000 faults, or none, as the imports left the heap
    assert [faults("keep_freed_memory()") < 400 for _ in range(3)] == [True] * 3
